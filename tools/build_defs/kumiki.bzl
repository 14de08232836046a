"""How our own code is compiled: warnings are errors, C++20 and C11 (the standards stand in .bazelrc).

    load("//tools/build_defs:kumiki.bzl", "kumiki_plugin", "kumiki_cc_library", "kumiki_cc_test")
"""

# -Wrestrict is off: gcc 12 sees overlaps in "text" + std::string(…) that are not there (its bug 105651).
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-restrict"]

KM_CXX = _WARNINGS  # for C++ files
KM_C = _WARNINGS  # for C files
_HIDDEN = ["-fvisibility=hidden"]

def kumiki_plugin(name, srcs, deps = [], copts = [], linkopts = [], data = [], **kwargs):
    """A shared object NAME.so of C and C++ files whose one visible symbol is kumiki_plugin_v0.

    Headers of its own go into srcs. //abi is added to deps. Label NAME and label NAME.so are the same file.
    """
    script = "//tools/build_defs:plugin.lds"
    native.cc_binary(
        name = name + ".so",
        srcs = srcs,
        deps = deps + ["//abi"],
        copts = _WARNINGS + _HIDDEN + copts,
        linkshared = 1,
        additional_linker_inputs = [script],
        linkopts = [
            "-Wl,--version-script=$(location %s)" % script,
            "-Wl,--exclude-libs,ALL",
            "-Wl,-z,defs",
        ] + linkopts,
        data = data,
        visibility = ["//visibility:public"],
        **kwargs
    )
    native.filegroup(
        name = name,
        srcs = [name + ".so"],
        visibility = ["//visibility:public"],
    )

def kumiki_cc_library(name, srcs = [], hdrs = [], deps = [], copts = [], visibility = ["//visibility:public"], **kwargs):
    """A library of our code; headers are included by their path from the root."""
    native.cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        deps = deps,
        copts = _WARNINGS + copts,
        visibility = visibility,
        **kwargs
    )

def kumiki_cc_test(name, srcs, deps = [], data = [], size = "small", copts = [], **kwargs):
    """A Catch2 test; its main function comes with it. Tests that start threads say tags = ["threads"]."""
    native.cc_test(
        name = name,
        srcs = srcs,
        deps = deps + ["@catch2_main"],
        data = data,
        size = size,
        copts = _WARNINGS + copts,
        **kwargs
    )
