"""Seeds of tests that try random things: three rounds in `make test`, as many as SKERRY_ROUNDS says in `make soak`."""

import os


def seeds(most: int | None = None) -> list[int]:
    """From SKERRY_SEED (1 or more) on; `most` caps rounds that are long. A test's id shows its seed."""
    rounds = int(os.environ.get("SKERRY_ROUNDS", "3"))
    first = int(os.environ.get("SKERRY_SEED", "1"))
    return list(range(first, first + (min(rounds, most) if most is not None else rounds)))
