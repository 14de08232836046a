#!/usr/bin/env python3
"""Who may include whom, checked from the #include lines: plugins reach abi/ and their own folder (kernels also
plugins/kernels/host), core reaches its own floor and lower ones, abi/ reaches the standard headers. Planted faults prove
that each rule can fail."""
import os
import re
import sys
import tempfile

FLOORS = ["base", "config", "plugin", "graph", "plan", "checkpoint", "run", "cli"]
SOURCES = (".h", ".hh", ".hpp", ".inc", ".c", ".cc", ".cpp", ".cu", ".cuh", ".S")
# Source that the components of one kind compile in: what any component of that kind may include.
SHARED = {"plugins/kernels": "plugins/kernels/host/"}
STANDARD_C = {"assert.h", "limits.h", "stddef.h", "stdint.h", "stdbool.h", "string.h"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|include_next|import)[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)


def resolve(root, file, target):
    """A quoted include as a path from the root: beside the file, from the root, or from abi/; None: outside the tree."""
    for base in (os.path.dirname(file), "", "abi"):
        path = os.path.normpath(os.path.join(base, target))
        if not path.startswith("..") and os.path.exists(os.path.join(root, path)):
            return path
    first = target.split("/")[0]
    return os.path.normpath(target) if first in ("core", "plugins", "abi", "kumiki", "tests", "bench") else None


def fault(root, file, quoted, angled):
    """What is wrong with one #include line of a file, or None."""
    target = quoted or angled
    path = resolve(root, file, target)
    folder = file.split("/")
    if folder[0] == "abi":
        if angled and angled not in STANDARD_C:
            return "abi/ includes only the standard headers of C"
        if quoted and not (path or "").startswith("abi/kumiki/"):
            return "abi/ includes only itself"
        return None
    if path is None or path.startswith("abi/"):
        return None
    if folder[0] == "plugins":
        # plugins/KIND/COMPONENT/…, or what the components of that kind share: plugins/KIND/FILE and SHARED
        own, shared = "/".join(folder[:3]) + "/", "/".join(folder[:2])
        if (len(folder) > 3 and path.startswith(own)) or os.path.dirname(path) == shared:
            return None
        if shared in SHARED and len(folder) > 3 and path.startswith(SHARED[shared]):
            return None
        also = " and " + SHARED[shared] if shared in SHARED else ""
        return "a plugin includes abi/, its own folder, the files of %s/ itself%s" % (shared, also)
    # a file of core/
    mine = folder[1]
    theirs = path.split("/")[1] if path.startswith("core/") and path.count("/") > 1 else None
    if theirs not in FLOORS:
        return "core/ includes its floors and abi/ only: %s" % " ".join(FLOORS)
    if FLOORS.index(theirs) > FLOORS.index(mine):
        return "core/%s stands below core/%s" % (mine, theirs)
    return None


def check(root):
    """(files read, include lines read, faults) of a tree."""
    files = lines = 0
    faults = []
    for top in ("abi", "core", "plugins"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if not name.endswith(SOURCES):
                    continue
                file = os.path.relpath(os.path.join(folder, name), root)
                if top == "core" and file.split("/")[1] not in FLOORS:
                    faults.append("%s: core/ has the floors %s" % (file, " ".join(FLOORS)))
                    continue
                # A test stands beside its subject and is no part of the program. In core/ it may use all floors, under
                # plugins/ all but core/: a component is tested through the ABI, too.
                is_test = name.endswith(("_test.c", "_test.cc"))
                files += 1
                with open(os.path.join(root, file), encoding="utf-8") as opened:
                    text = opened.read()
                for match in INCLUDE.finditer(text):
                    lines += 1
                    why = fault(root, file, match[1], match[2])
                    if is_test and not (top == "plugins" and (match[1] or match[2]).startswith("core/")):
                        why = None
                    if why:
                        number = text.count("\n", 0, match.start()) + 1
                        faults.append("%s:%d: %s: %s" % (file, number, match[0].strip(), why))
    return files, lines, faults


# file, its text, is it a fault?
PLANTED = [
    ("abi/kumiki/a.h", "#include <stdint.h>\n", False),
    ("abi/kumiki/b.h", '#include "kumiki/a.h"\n', False),
    ("abi/kumiki/c.h", "#include <vector>\n", True),
    ("abi/kumiki/d.h", '#include "core/base/error.h"\n', True),
    ("core/base/error.h", "#include <string>\n", False),
    ("core/base/up.h", '#include "core/graph/graph.h"\n', True),
    ("core/graph/graph.h", '#include "core/base/error.h"\n#include "kumiki/a.h"\n', False),
    ("core/graph/beside.cc", '#include "graph.h"\n', False),
    ("core/graph/plugin.cc", '#include "plugins/kernels/x/own.h"\n', True),
    ("core/run/run.cc", '#  include "core/cli/main.h"\n', True),
    ("core/cli/main.h", '#include "core/run/pool.h"\n', False),
    ("core/extra/x.h", "", True),
    ("plugins/kernels/x/own.h", '#include "kumiki/a.h"\n', False),
    ("plugins/kernels/x/x.cc", '#include "own.h"\n#include "plugins/kernels/x/own.h"\n#include <hwy/highway.h>\n', False),
    ("plugins/kernels/x/core.cc", '#include "core/base/error.h"\n', True),
    ("plugins/kernels/x/core_test.cc", '#include "core/base/error.h"\n', True),
    ("plugins/kernels/y/y.cc", '#include "plugins/kernels/x/own.h"\n', True),
    ("plugins/kernels/y/z.cc", '#include "../x/own.h"\n', True),
    ("plugins/kernels/shared.h", '#include "kumiki/a.h"\n', False),
    ("plugins/kernels/y/s.cc", '#include "plugins/kernels/shared.h"\n', False),
    ("plugins/kernels/s.cc", '#include "plugins/kernels/x/own.h"\n', True),
    ("plugins/kernels/host/pool.h", '#include "kumiki/a.h"\n', False),
    ("plugins/kernels/host/up.h", '#include "plugins/kernels/x/own.h"\n', True),
    ("plugins/kernels/y/part/h.cc", '#include "plugins/kernels/host/pool.h"\n', False),
    ("plugins/data/z/h.cc", '#include "plugins/kernels/host/pool.h"\n', True),
    ("plugins/data/z/z.cc", '#include "plugins/kernels/shared.h"\n', True),
]


def self_test():
    with tempfile.TemporaryDirectory() as root:
        for file, text, _ in PLANTED:
            os.makedirs(os.path.dirname(os.path.join(root, file)), exist_ok=True)
            with open(os.path.join(root, file), "w", encoding="utf-8") as out:
                out.write(text)
        found = {line.split(":")[0] for line in check(root)[2]}
    expected = {file for file, _, bad in PLANTED if bad}
    if found != expected:
        sys.exit("the check itself is wrong: missed %s, false alarms %s" % (expected - found, found - expected))


def main():
    self_test()
    root = os.path.dirname(os.path.realpath("WORKSPACE"))
    files, lines, faults = check(root)
    print("%d include lines in %d files, %d planted faults found" % (lines, files, sum(bad for _, _, bad in PLANTED)))
    print("\n".join(faults))
    if not files or faults:
        sys.exit("%d include lines cross the floors" % len(faults))


main()
