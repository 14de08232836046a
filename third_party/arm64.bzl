"""@arm64: what the program for Fugaku takes from Debian's arm64 packages. tools/arm64_sysroot gets it; without it the
build of everything else goes on, and a target for a64fx fails with what to run.

    @arm64//:LIBRARY   the shared library of each name in _LIBRARIES, to link with
    @arm64//:runtime   all shared libraries that the program needs, the loader among them: they travel with it
    @arm64//:licences  the licences of what travels
"""

# Unpacked from Debian's arm64 packages by tools/arm64_sysroot: library -> (its file, its package).
_LIBRARIES = {
    "highway": ("libhwy.so.1", "libhwy1"),
    "sentencepiece": ("libsentencepiece.so.0", "libsentencepiece0"),
    "xxhash": ("libxxhash.so.0", "libxxhash0"),
    "zlib": ("libz.so.1", "zlib1g"),
}

# Debian's cross packages. Plugins that a site builds (mpi.so) and its libraries name more parts of glibc than ours do,
# and all parts must be of one version.
_CROSS = "/usr/aarch64-linux-gnu/lib/"
_LOADER = "ld-linux-aarch64.so.1"
_RUNTIME = [
    _LOADER,
    "libanl.so.1",
    "libatomic.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libgomp.so.1",
    "libm.so.6",
    "libnss_compat.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
]
_LICENCES = {
    "/usr/share/doc/libc6-arm64-cross/copyright": "glibc",
    "/usr/share/doc/gcc-12-aarch64-linux-gnu-base/copyright": "gcc",
}

_LIBRARY = """
cc_library(
    name = "{name}",
    linkopts = ["{path}"],
)
"""

_FILES = """
package(default_visibility = ["//visibility:public"])

filegroup(
    name = "runtime",
    srcs = glob(["runtime/*"]),
)

filegroup(
    name = "licences",
    srcs = glob(["licences/*"]),
)
"""

_MISSING = """
package(default_visibility = ["//visibility:public"])

genrule(
    name = "missing",
    outs = ["missing.h"],
    cmd = "echo; echo '  arm64: {path} not found; run: tools/arm64_sysroot'; echo; exit 1",
)
"""

_MISSING_LIBRARY = """
cc_library(
    name = "{name}",
    hdrs = ["missing.h"],
)
"""

_MISSING_FILES = """
filegroup(
    name = "{name}",
    srcs = ["missing.h"],
)
"""

def _folder(environ):
    """Where tools/arm64_sysroot unpacks, by the same rule."""
    if "KUMIKI_ARM64_SYSROOT" in environ:
        return environ["KUMIKI_ARM64_SYSROOT"]
    return environ.get("XDG_CACHE_HOME", environ.get("HOME", "/root") + "/.cache") + "/kumiki/arm64-sysroot"

def _arm64_impl(repository):
    root = _folder(repository.os.environ)
    lib = root + "/usr/lib/aarch64-linux-gnu/"
    runtime = {_CROSS + file: file for file in _RUNTIME}
    licences = dict(_LICENCES)
    for file, package in _LIBRARIES.values():
        runtime[lib + file] = file
        licences["%s/usr/share/doc/%s/copyright" % (root, package)] = package
    needed = ["/usr/bin/aarch64-linux-gnu-g++-12"] + runtime.keys() + licences.keys()
    for path in needed:
        if not repository.path(path).exists:
            build = _MISSING.format(path = path)
            build += "".join([_MISSING_LIBRARY.format(name = name) for name in _LIBRARIES])
            build += "".join([_MISSING_FILES.format(name = name) for name in ["runtime", "licences"]])
            repository.file("BUILD", build)
            return
    for path, file in runtime.items():
        repository.symlink(path, "runtime/" + file)
    for path, package in licences.items():
        repository.symlink(path, "licences/" + package)
    build = _FILES
    for name, (file, _) in _LIBRARIES.items():
        build += _LIBRARY.format(name = name, path = lib + file)
    repository.file("BUILD", build)

_arm64 = repository_rule(
    implementation = _arm64_impl,
    local = True,  # looked at anew by each Bazel server: it may have been installed meanwhile
    environ = ["HOME", "KUMIKI_ARM64_SYSROOT", "XDG_CACHE_HOME"],
)

def arm64_repository():
    _arm64(name = "arm64")
