"""`python -m skerry.cli`."""

from skerry.cli.main import main

main()
