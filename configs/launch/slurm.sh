#!/bin/bash
# Many ranks under Slurm: one rank for each group of cores that share memory.
#   sbatch configs/launch/slurm.sh my.toml --set parallel.tensor.degree=2
# Everything after the configuration goes to `kumiki train`. Started again, it goes on from the newest checkpoint.
#
# What was run: nothing of this file; there was no Slurm to try it on. It was read by `bash -n`.
# Sources: the manual pages sbatch(1) and srun(1) of Slurm; docs/configuration.md (exit codes).

#SBATCH --job-name=kumiki
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4           # ranks of a node: as many as it has NUMA domains (or sockets)
#SBATCH --cpus-per-task=12            # cores of a rank: cores of the node / ranks of the node
#SBATCH --hint=nomultithread          # a rank counts cores, not hardware threads
#SBATCH --exclusive                   # nobody else on these nodes: timings, and memory bandwidth
#SBATCH --time=01:00:00
#SBATCH --signal=USR1@300             # 300 s before the time is over each rank gets USR1: it saves and ends with 85
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=kumiki-%j.txt
set -u

kumiki=${KUMIKI:-kumiki}
config=${1:?usage: sbatch $0 CONFIG [arguments of kumiki train]}
shift

# --mpi=pmix    how ranks find each other; the MPI library must have been built with PMIx (`srun --mpi=list` shows what is there)
# --cpu-bind=cores  each rank is bound to its own cores, which kumiki then uses, and no others
# --kill-on-bad-exit=1  a rank that fails takes the others with it; kumiki's own abort does so too
# [comm] use = "auto" sees the launcher by its environment (PMIX_RANK, PMI_SIZE, …) and takes `mpi`.
# --resume without a checkpoint begins a new run.
srun --mpi=pmix --cpu-bind=cores --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
  "$kumiki" train "$config" --resume "$@"
code=$?

# 85: stopped by USR1, checkpoint saved. The job goes back into the queue and goes on where it was.
if [ "$code" -eq 85 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
