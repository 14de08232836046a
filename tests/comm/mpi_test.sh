#!/bin/sh
# comm "mpi" keeps the promises of comm under mpirun. Arguments: the suite, the plugin, the same built with small pieces, how
# many ranks.
set -eu
suite=$PWD/$1 plugin=$PWD/$2 in_pieces=$PWD/$3 ranks=$4
command -v mpirun >/dev/null || { echo "skipped: no mpirun in PATH; run: tools/install test"; exit 0; }
# Open MPI: as root, more ranks than cores, over shared memory, without the system call that sandboxes forbid. Its sockets
# and shared memory lie in a folder of this test's own: their names come from mpirun's process number, which is the same in
# two sandboxes, and two jobs then write into one memory. The path must be short.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none HOME="${HOME:-$TEST_TMPDIR}"
TMPDIR=$(mktemp -d /dev/shm/kumiki.XXXXXX)
trap 'rm -rf "$TMPDIR"' EXIT
export TMPDIR OMPI_MCA_btl_vader_backing_directory="$TMPDIR"
# Whole stacks, so that what the MPI library leaks is known by its name.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:fast_unwind_on_malloc=0"
export LSAN_OPTIONS="suppressions=$PWD/tests/comm/openmpi.supp:print_suppressions=0"
out=$TEST_TMPDIR/out
fail() { cat "$out" "$out.err"; echo "$*"; exit 1; }
# launch PLUGIN WHAT: the exit code of mpirun is in $code.
launch() { code=0; timeout 240 mpirun -np "$ranks" "$suite" "$1" "$2" >"$out" 2>"$out.err" || code=$?; }
passes() {
  launch "$@"
  [ "$code" = 0 ] || fail "$2: exit code $code"
  grep -q "mpi_suite: $2 with $ranks ranks passed" "$out" || fail "$2: not all ranks came to the end"
  cat "$out"
}

passes "$plugin" all
passes "$in_pieces" all
passes "$plugin" all_checked
passes "$plugin" check
passes "$plugin" latency
passes "$plugin" again

launch "$plugin" abort
[ "$code" = 86 ] || fail "abort: exit code $code, not 86"
grep -q "kumiki: rank $((ranks - 1)) of $ranks: step 7: all_reduce 12 does not end" "$out.err" || fail "abort: no text"

[ "$ranks" != 1 ] || exit 0
passes "$plugin" short
grep -q "rank 0 sent 3 elements where rank 1 receives 5" "$out.err" || fail "short: no text"
passes "$plugin" truncate
grep -q "receiver: comm mpi: recv of 3 f32 failed" "$out.err" || fail "truncate: no text"
