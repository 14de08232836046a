"""Local stand-ins for the repositories that Bazel 4.2 would otherwise download for C++ rules and tests.

A repository named in WORKSPACE wins over the one that Bazel adds by itself, so a build needs no network. The rules_cc
and rules_java stand-ins hand on the native rules; the coverage tools are programs that do nothing.
"""

_CC_RULES = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
    "objc_library",
]

_JAVA_RULES = [
    "java_binary",
    "java_import",
    "java_library",
    "java_proto_library",
    "java_runtime",
    "java_test",
    "java_toolchain",
]

_COVERAGE_TOOLS = ["coverage_output_generator", "coverage_report_generator", "lcov_merger"]

def _native_rules_impl(repository):
    folder = repository.attr.folder
    lines = ["{0} = native.{0}".format(rule) for rule in repository.attr.rules]
    repository.file("BUILD", "")
    repository.file(folder + "/BUILD", 'exports_files(["defs.bzl"])\n')
    repository.file(folder + "/defs.bzl", "\n".join(lines) + "\n")

_native_rules = repository_rule(
    implementation = _native_rules_impl,
    attrs = {"folder": attr.string(), "rules": attr.string_list()},
)

def _no_coverage_impl(repository):
    repository.file("nothing.sh", "#!/bin/sh\nexit 0\n", executable = True)
    rule = 'sh_binary(name = "{}", srcs = ["nothing.sh"], visibility = ["//visibility:public"])'
    repository.file("BUILD", "\n".join([rule.format(tool) for tool in _COVERAGE_TOOLS]) + "\n")

_no_coverage = repository_rule(implementation = _no_coverage_impl)

def offline_repositories():
    _native_rules(name = "rules_cc", folder = "cc", rules = _CC_RULES)
    _native_rules(name = "rules_java", folder = "java", rules = _JAVA_RULES)
    _no_coverage(name = "remote_coverage_tools")
