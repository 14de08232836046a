"""Libraries of the Debian system as @NAME (a cc_library of the same name).

A missing library does not break the analysis of what does not use it: its repository then holds a target that fails
when it is built, with the apt-get line that mends it.

Libraries of headers alone are for any machine. One that says how (`a64fx_defines`, `a64fx_deps`) is cross-built for
Fugaku, too: by its headers alone, or with the library of Debian's arm64 packages (arm64.bzl).
"""

_FOUND = """
cc_library(
    name = "{name}",
    hdrs = glob(["include/**"]),
    includes = {includes},
    defines = {defines},
    linkopts = {linkopts},
    target_compatible_with = {compatible},
    deps = {deps},
    visibility = ["//visibility:public"],
)
"""

_SELECT = """select({{
        "@kumiki//third_party/toolchains:a64fx": {a64fx},
        "//conditions:default": {other},
    }})"""

_MISSING = """
genrule(
    name = "missing",
    outs = ["missing.h"],
    cmd = "echo; echo '  {message}'; echo; exit 1",
)

cc_library(
    name = "{name}",
    hdrs = ["missing.h"],
    visibility = ["//visibility:public"],
)
"""

def _system_library_impl(repository):
    attr = repository.attr
    machine = repository.execute(["uname", "-m"]).stdout.strip()
    lib = "/usr/lib/%s-linux-gnu" % machine
    headers = {path.replace("@LIB@", lib): name for path, name in attr.headers.items()}
    files = [path.replace("@LIB@", lib) for path in attr.files]
    for path in headers.keys() + files:
        if not repository.path(path).exists:
            message = "%s: %s not found; run: apt-get install %s" % (repository.name, path, attr.apt)
            repository.file("BUILD", _MISSING.format(name = repository.name, message = message))
            return
    for path, name in headers.items():
        repository.symlink(path, "include/" + name)

    # A shared library of the system is for this machine; a library of headers is for any.
    compatible = ["@platforms//cpu:" + machine] if attr.linkopts else []
    defines, linkopts, compatible, deps = repr(attr.defines), repr(attr.linkopts), repr(compatible), "[]"
    if attr.a64fx_defines or attr.a64fx_deps:
        defines = _SELECT.format(a64fx = repr(attr.a64fx_defines), other = defines)
        linkopts = _SELECT.format(a64fx = "[]", other = linkopts)
        compatible = _SELECT.format(a64fx = "[]", other = compatible)
        deps = _SELECT.format(a64fx = repr(attr.a64fx_deps), other = "[]")
    repository.file("BUILD", _FOUND.format(
        name = repository.name,
        includes = repr(["include/" + folder if folder else "include" for folder in attr.includes]),
        defines = defines,
        linkopts = linkopts,
        compatible = compatible,
        deps = deps,
    ))

_system_library = repository_rule(
    implementation = _system_library_impl,
    local = True,  # looked at anew by each Bazel server: a library may have been installed meanwhile
    attrs = {
        "apt": attr.string(mandatory = True, doc = "packages that bring it"),
        "headers": attr.string_dict(doc = "file or folder -> its path for #include; @LIB@ = the machine's library folder"),
        "files": attr.string_list(doc = "what must exist too"),
        "includes": attr.string_list(default = [""], doc = "include folders, below the root of `headers`"),
        "linkopts": attr.string_list(),
        "defines": attr.string_list(),
        "a64fx_defines": attr.string_list(doc = "in place of defines when cross-built; no linkopts then"),
        "a64fx_deps": attr.string_list(doc = "what to link with when cross-built"),
    },
)

def system_repositories():
    _system_library(
        name = "catch2",
        apt = "catch2",
        headers = {"/usr/include/catch2": "catch2"},
    )
    _system_library(
        name = "catch2_main",
        apt = "catch2",
        headers = {"/usr/include/catch2": "catch2"},
        files = ["/usr/lib/libCatch2WithMain.a"],
        linkopts = ["-lCatch2WithMain"],
    )
    _system_library(
        name = "tomlplusplus",
        apt = "libtomlplusplus-dev",
        headers = {"/usr/include/toml++": "toml++"},
        defines = ["TOML_HEADER_ONLY=1"],
    )
    _system_library(
        name = "spdlog",
        apt = "libspdlog-dev",
        headers = {"/usr/include/spdlog": "spdlog", "/usr/include/fmt": "fmt"},
        defines = ["SPDLOG_SHARED_LIB", "SPDLOG_COMPILED_LIB", "SPDLOG_FMT_EXTERNAL"],
        linkopts = ["-lspdlog", "-lfmt"],
        a64fx_defines = ["SPDLOG_FMT_EXTERNAL", "FMT_HEADER_ONLY"],
    )
    _system_library(
        name = "cli11",
        apt = "libcli11-dev",
        headers = {"/usr/include/CLI": "CLI"},
    )
    _system_library(
        name = "json",
        apt = "nlohmann-json3-dev",
        headers = {"/usr/include/nlohmann": "nlohmann"},
    )
    _system_library(
        name = "highway",
        apt = "libhwy-dev",
        headers = {"/usr/include/hwy": "hwy"},
        defines = ["HWY_SHARED_DEFINE"],
        linkopts = ["-lhwy"],
        a64fx_defines = ["HWY_SHARED_DEFINE"],
        a64fx_deps = ["@arm64//:highway"],
    )
    _system_library(
        name = "dnnl",
        apt = "libdnnl-dev",
        headers = {"/usr/include/oneapi": "oneapi", "/usr/include/dnnl.h": "dnnl.h", "/usr/include/dnnl.hpp": "dnnl.hpp"},
        files = ["@LIB@/libdnnl.so"],
        linkopts = ["-ldnnl"],
    )
    _system_library(
        name = "sentencepiece",
        apt = "libsentencepiece-dev",
        headers = {"/usr/include/sentencepiece_processor.h": "sentencepiece_processor.h"},
        linkopts = ["-lsentencepiece"],
        a64fx_deps = ["@arm64//:sentencepiece"],
    )
    _system_library(
        name = "zlib",
        apt = "zlib1g-dev",
        headers = {"/usr/include/zlib.h": "zlib.h"},
        linkopts = ["-lz"],
        a64fx_deps = ["@arm64//:zlib"],
    )
    _system_library(
        name = "xxhash",
        apt = "libxxhash-dev",
        headers = {"/usr/include/xxhash.h": "xxhash.h", "/usr/include/xxh3.h": "xxh3.h"},
        linkopts = ["-lxxhash"],
        a64fx_deps = ["@arm64//:xxhash"],
    )
    _system_library(
        name = "mpi",
        apt = "libopenmpi-dev",
        headers = {"@LIB@/openmpi/include": "openmpi"},
        includes = ["openmpi"],
        files = ["@LIB@/libmpi.so"],
        defines = ["OMPI_SKIP_MPICXX"],
        linkopts = ["-lmpi"],
    )
