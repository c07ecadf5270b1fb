"""`python -m skerry.training.supervisor`: one on each node of a training job."""

import sys

from skerry.training.supervisor.program import main

if __name__ == "__main__":
    sys.exit(main())
