"""What a supervisor itself has to say, into the job's log."""

import sys


def say(text: str) -> None:
    sys.stdout.write(f"skerry: {text}\n")
    sys.stdout.flush()
