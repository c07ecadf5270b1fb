"""Ranges of hostnames, as Slurm writes them: `no-a-1-[01-32,40]` is 33 hosts."""

import re
from collections.abc import Iterable
from itertools import groupby, product
from typing import Final

MOST_HOSTS: Final = 100_000
"""Of one range."""
HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

_PART: Final = re.compile(r"\[([^\[\]]*)\]")
_SPAN: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_NUMBERED: Final = re.compile(r"(.*?)(\d{1,9})")


def expand(text: str) -> list[str]:
    """All hosts of a name with ranges, in order; numbers keep the width they are written in.

    Raises ValueError for what is no hostname, a range that runs backwards, and too many hosts.
    """
    parts = _PART.split(text)  # words and what stands in brackets, in turn
    choices = [_numbers(part) if at % 2 else [part] for at, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_HOSTS:
        raise ValueError(f"{text!r} is {count} hosts; a range has at most {MOST_HOSTS}")
    hosts = ["".join(words) for words in product(*choices)]
    for host in hosts:
        if not HOSTNAME.fullmatch(host):
            raise ValueError(f"{host!r} is not a hostname")
    return hosts


def fold(hosts: Iterable[str]) -> list[str]:
    """The same hosts as few names with ranges over their last number; what has none stays as it is."""
    numbered: list[tuple[str, int, int]] = []
    plain: list[str] = []
    for host in hosts:
        if match := _NUMBERED.fullmatch(host):
            numbered.append((match[1], len(match[2]), int(match[2])))
        else:
            plain.append(host)
    folded = sorted(plain)
    for (prefix, width), group in groupby(sorted(set(numbered)), key=lambda one: one[:2]):
        spans = _spans([number for _, _, number in group])
        words = ",".join(f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in spans)
        single = len(spans) == 1 and spans[0][0] == spans[0][1]
        folded.append(f"{prefix}{words}" if single else f"{prefix}[{words}]")
    return folded


def _numbers(text: str) -> list[str]:
    numbers: list[str] = []
    for span in text.split(","):
        match = _SPAN.fullmatch(span.strip())
        if match is None:
            raise ValueError(f"[{text}] is not a range: it takes forms like [01-32] or [1,3,7-9]")
        first, last = match[1], match[2] or match[1]
        if int(last) < int(first):
            raise ValueError(f"[{text}] runs backwards")
        if int(last) - int(first) >= MOST_HOSTS:
            raise ValueError(f"[{text}] has more than {MOST_HOSTS} hosts")
        numbers += [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return numbers


def _spans(numbers: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans
