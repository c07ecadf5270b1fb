"""`python -I -m skerry.compute.task`: the program that engines start in the place of what a customer gave."""

import os
import sys

from skerry.compute.task.program import main

os.umask(0o077)
sys.exit(main())
