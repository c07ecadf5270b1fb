#!/bin/sh
# Install Slurm, for the tests of its engine.
exec "$(dirname "$0")/apt-packages.sh" slurm-packages \
    "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins" \
    "munged slurmctld slurmd sbatch scontrol sinfo squeue srun"
