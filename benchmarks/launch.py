"""How fast work starts on Slurm, and what a long queue costs.

    python benchmarks/launch.py [--nodes 1,16,64] [--rounds 5] [--queued 1000] [--seconds 30] [--json]

A Slurm of its own (virtual nodes on this machine, loopback), ended afterwards even if this is killed. As root, with
Slurm's packages.

First table: from handing over to the moment the first and the last task runs, by Skerry's engine and by bare `sbatch`
with `srun`, in turn, medians over the rounds. A task writes down the time. All nodes share this machine's cores here:
Skerry starts a runner (a Python process) on each node, which in a fleet is a machine of its own; its CPU is shown.

Second: agent and controller as they run in production, a fleet of 4 nodes with 2 accelerators each, and so many
workloads that want one and end after a few seconds. CPU time of the controller is read from /proc while the queue is
worked on.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the tests' Slurm is used
    from benchmarks.launch_measure import guarded

    sys.exit(guarded(__doc__ or ""))
