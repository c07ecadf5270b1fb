"""Seeds of the kill rounds, printed before anything runs."""

import os


def rounds():
    """`SKERRY_ROUNDS` seeds, from `SKERRY_SEED` on."""
    first = int(os.environ.get("SKERRY_SEED", "1"))
    return range(first, first + int(os.environ.get("SKERRY_ROUNDS", "3")))


def pytest_report_header():
    return f"kill tests of admissions: seeds {', '.join(map(str, rounds()))}"
