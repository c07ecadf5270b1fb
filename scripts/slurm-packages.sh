#!/bin/sh
# Install Slurm for the tests of its engine, by apt where that and root are there. Quiet, harmless to run again, and
# never a failure: where it cannot be, a line says why, and the tests say that they were skipped (but in CI).
set -u

PACKAGES="slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins"
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

there() {
    for program in munged slurmctld slurmd sbatch scontrol sinfo squeue srun; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
}

if there; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "slurm-packages: not root, so Slurm was not installed (wanted: $PACKAGES)"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "slurm-packages: no apt-get here, so Slurm was not installed (wanted: slurmctld, slurmd, clients, munge)"
    exit 0
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() {
    # shellcheck disable=SC2086 # several words are meant
    apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=120 $PACKAGES >"$log" 2>&1 </dev/null
}
# Services that may not start here (a container without systemd) are no matter: the tests start daemons of their own.
install || { apt-get update --quiet >"$log" 2>&1 </dev/null && install; }
if there; then
    echo "slurm-packages: installed $(sinfo -V 2>/dev/null)"
else
    echo "slurm-packages: Slurm could not be installed; the last lines of apt-get:"
    tail -n 5 "$log"
fi
rm -f "$log"
exit 0
