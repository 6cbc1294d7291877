#!/usr/bin/env bash
# A training in eight ranks on two hosts: sbatch configs/clusters/slurm.sh recipes/NAME.yaml
# Run again after the time limit or a lost host, it goes on from the last snapshot, with any number of ranks.
#SBATCH --job-name=attar
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
set -euo pipefail
# srun gives each rank SLURM_PROCID and SLURM_STEP_NUM_TASKS; the hosts must share the working directory.
exec srun --kill-on-bad-exit=1 attar run "$@" --threads "$SLURM_CPUS_PER_TASK"
