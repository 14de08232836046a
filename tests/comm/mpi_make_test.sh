#!/bin/sh
# A site builds comm "mpi" with make, its own MPI compiler and kumiki's headers alone. Arguments: the suite, the sources.
set -eu
suite=$PWD/$1
shift
for tool in mpicc mpirun make; do
  command -v $tool >/dev/null || { echo "skipped: no $tool in PATH; run: tools/install build test"; exit 0; }
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none HOME="${HOME:-$TEST_TMPDIR}"
TMPDIR=$(mktemp -d /dev/shm/kumiki.XXXXXX) # why: mpi_test.sh
trap 'rm -rf "$TMPDIR"' EXIT
export TMPDIR OMPI_MCA_btl_vader_backing_directory="$TMPDIR"
site=$TEST_TMPDIR/comm_mpi
mkdir -p "$site"
cp -L "$@" "$site"
make -C "$site" KUMIKI_INCLUDE="$PWD/abi" CFLAGS="-O2 -Wall -Wextra -Werror -pedantic"
[ "$(nm -D --defined-only "$site/mpi.so" | awk '{print $2, $3}')" = "T kumiki_plugin_v0" ]
timeout 240 mpirun -np 2 "$suite" "$site/mpi.so" all
