#!/bin/sh
# The tar of //:dist is whole: it unpacks in any folder and runs there. Arguments: the tar, the plugins.
set -eu
tar=$PWD/$1
shift
folder=$TEST_TMPDIR/somewhere\ else
mkdir -p "$folder"
tar -xzf "$tar" -C "$folder"
cd "$folder/kumiki"
fail() { echo "$*"; exit 1; }

for plugin; do
  [ -f "lib/kumiki/${plugin##*/}" ] || fail "the tar lacks lib/kumiki/${plugin##*/}"
done
[ "$(ls lib/kumiki | wc -l)" = $# ] || fail "lib/kumiki holds other files than the plugins: $(ls lib/kumiki)"
[ -f share/kumiki/LICENSE ] || fail "the tar lacks the licence"
[ -f include/kumiki/plugin.h ] || fail "the tar lacks include/kumiki/plugin.h"
[ -f share/kumiki/configs/quickstart.toml ] || fail "the tar lacks share/kumiki/configs/quickstart.toml"
[ -f share/kumiki/src/comm_mpi/Makefile ] || fail "the tar lacks the source of comm mpi, which a site builds"
printf '#include "kumiki/plugin.h"\nint main(void);\n' | gcc -std=c11 -Iinclude -fsyntax-only -x c -

bin/kumiki --help >"$TEST_TMPDIR/help" || fail "bin/kumiki --help failed"
grep -q train "$TEST_TMPDIR/help" || fail "bin/kumiki --help does not speak of train"
bin/kumiki plugin list >"$TEST_TMPDIR/list" || fail "bin/kumiki plugin list failed"
for plugin; do
  name=${plugin##*/}
  grep -qw "${name%.so}" "$TEST_TMPDIR/list" || fail "bin/kumiki plugin list does not know ${name%.so}"
done
echo "unpacked elsewhere: $# plugins found and loaded"
