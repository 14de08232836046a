#!/bin/bash
# Many ranks on Fugaku: one rank a core memory group (CMG) of 12 cores, so four ranks a node.
#   pjsub configs/launch/fugaku.pjsub.sh
# Set GROUP, the volume, the number of nodes and CONFIG below. Started again, the run goes on from its newest checkpoint.
#
# What was run: nothing of this file; there was no Fugaku to try it on. It was read by `bash -n`. Each line names where its option is
# described: UG = Supercomputer Fugaku Users Guide, "Use and job execution" 1.52 (RIKEN R-CCS); MPI = Fujitsu "MPI User's Guide"
# J2UL-2565; DSF = the public job scripts of Fugaku-LLM (github.com/Fugaku-LLM/DeepSpeedFugaku), which trained a 13B model there.
#
# What has to be there before: kumiki and its plugins for A64FX under dist/, kernels `sve` among them, and mpi.so built on the
# machine with Fujitsu's compiler (share/kumiki/src/comm_mpi/Makefile).

# -- resources --
#PJM -L "rscgrp=small"                # resource group (UG)
#PJM -L "node=2x3x2:torus"            # 12 nodes as a torus: neighbours in the job are neighbours in the network (UG, DSF)
#PJM -L "elapse=01:00:00"             # wall time (UG)
#PJM -L "freq=2200,eco_state=0"       # 2.2 GHz, and both floating-point pipes: the default, eco_state=2, leaves one (UG 7.1)
#PJM -L "retention_state=0"           # idle cores do not fall asleep: waking up takes about 3 ms (UG 7)
#PJM --mpi "max-proc-per-node=4"      # one rank a CMG: local memory, and the hardware barrier, which is per CMG (UG)
#PJM -g GROUP                         # your project (UG)
#PJM -x PJM_LLIO_GFSCACHE=/vol0004    # every volume that the job touches, separated by colons (UG)
#PJM --llio localtmp-size=20Gi        # of 87 GiB a node that /local, shared temporary files and the cache share (UG)
#PJM -S                               # statistics of the job, beside its output (UG)
#PJM -j                               # errors go into the output file (UG)
set -u

CONFIG=configs/gpt-300m.toml
LAYOUT="--set parallel.tensor.degree=4 --set parallel.pipeline.degree=2"   # tensor inside a node; 48 ranks: data 6
BATCH="--set run.global_batch=48"                                          # a multiple of micro_batch x data degree
RANKS=$((12 * 4))

# -- environment of each rank --
# Kumiki has threads of its own; OpenMP is used by none of its parts. It uses the cores that the rank is bound to.
export OMP_NUM_THREADS=1
# Large pages (2 MiB) come when they are touched, each in the CMG of the core that touches it. "prepage" would ignore CMGs.
# XOS_* acts only where the program is linked with Fujitsu's libmpg (UG 5.10).
export XOS_MMM_L_PAGING_POLICY=demand:demand:demand

# -- files --
# What all ranks read goes to the nodes' first-layer storage once, in place of thousands of opens of one file (needed above 7,000
# nodes; UG, llio_transfer). Nothing may have opened the files in this job before.
FILES=$(ls dist/bin/kumiki dist/lib/kumiki/*.so dist/lib/runtime/* 2>/dev/null)
llio_transfer $FILES

# -- run --
# bind_local: a rank's memory comes from its own CMG (MPI, plm_ple_memory_allocation_policy). Fujitsu MPI itself sums in the
# same order under the same conditions, so that a run gives the same bits twice; see there coll_base_reduce_commute_safe.
# One output file for a thousand ranks and each rank a line of its path: %/1000r (UG, -std-proc).
# max_wall: saves and ends with code 85 five minutes before the wall time is over.
mpiexec -n "$RANKS" -std-proc "out.%j/%/1000r/std" -mca plm_ple_memory_allocation_policy bind_local \
  dist/bin/kumiki train "$CONFIG" --resume $LAYOUT $BATCH \
  --set kernels.use=sve,generic,reference --set run.max_wall=3300
code=$?

llio_transfer --purge $FILES
# 85: stopped before its last step, checkpoint saved: submit this script again. 86: a rank was lost or hung, 87: ranks
# disagree; the text in out.*/ says which rank (docs/parallelism.md).
exit "$code"
