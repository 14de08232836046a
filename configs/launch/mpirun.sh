#!/bin/sh
# Many ranks by plain mpirun, on the hosts of a host file:
#   RANKS=8 HOSTS=hosts configs/launch/mpirun.sh my.toml --set parallel.tensor.degree=2
# Without HOSTS all ranks run on this host. Everything after the configuration goes to `kumiki train`.
#
# A host file of Open MPI has a line for each host, and how many ranks it takes; the program lies at the same path on all:
#   node1 slots=4
#   node2 slots=4
#
# What was run: two ranks on one host with Open MPI 4.1.4, without a host file and with one that names localhost.
# What was not run: several hosts.
set -eu

ranks=${RANKS:-2}                 # a power of two suits most degrees
hosts=${HOSTS:-}                  # a host file; none: this host alone
kumiki=${KUMIKI:-kumiki}          # the program, if it is not in PATH

[ $# -ge 1 ] || { echo "usage: [RANKS=N] [HOSTS=FILE] $0 CONFIG [arguments of kumiki train]" >&2; exit 2; }

# Lines of the form `set -- X "$@"` put X in front of the command; so they read from the last word to the first.
set -- "$kumiki" train "$@"
# KUMIKI_PLUGINS and the like go to the other hosts only if they are named.
[ -z "${KUMIKI_PLUGINS:-}" ] || set -- -x KUMIKI_PLUGINS "$@"
# Kumiki pins threads itself: it divides the cores of a host among the ranks there. mpirun would bind a rank to one core
# (up to two ranks) or to all cores of a socket (more). Where you want its binding, leave this out: a rank that is bound uses
# the cores that it is bound to.
set -- --bind-to none "$@"
# With more ranks than slots (tests), mpirun needs to be told that this is meant.
[ -z "${OVERSUBSCRIBE:-}" ] || set -- --oversubscribe "$@"
[ -z "$hosts" ] || set -- --hostfile "$hosts" "$@"
# Other things that a site may need, before -np:
#   --mca btl_tcp_if_include eth0     the network to use, where there are several
#   --mca btl_vader_single_copy_mechanism none   in containers that forbid process_vm_readv
exec mpirun -np "$ranks" "$@"
