"""Metrics of several processes on one page: each serves its own on a unix socket, one joins them.

The protocol is the simplest there is: connect, read Prometheus text to the end.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

SCRAPE_SECONDS: Final = 1.0
_LARGEST_PAGE = 16 * 1024 * 1024

_SOCKET = re.compile(r"metrics-(?P<role>.+)-(?P<pid>\d+)\.sock")
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?(?P<value> .*)")


@dataclass(slots=True)
class _Family:
    """One metric over all processes: its `# HELP` and `# TYPE` lines, once, and all its samples."""

    head: dict[str, str] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


def socket_path(run: Path, role: str, pid: int) -> Path:
    return run / f"metrics-{role}-{pid}.sock"


def sockets(run: Path) -> list[Path]:
    """The metrics sockets of all processes, dead ones too."""
    return sorted(path for path in run.glob("metrics-*.sock") if _SOCKET.fullmatch(path.name))


async def serve(registry: CollectorRegistry, path: Path) -> asyncio.Server:
    """Answer whoever connects to `path` with the registry's metrics, until the server is closed."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(generate_latest(registry))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            return  # whoever asked has gone

    path.unlink(missing_ok=True)  # left by a process of the same id that died
    server = await asyncio.start_unix_server(answer, path)
    path.chmod(0o666)  # the folder decides who comes this far; roles run as different users
    return server


async def join(paths: Sequence[Path]) -> str:
    """All processes' metrics as one page, each sample with a label `role`, and `pid` where a role has several.

    A process that does not answer within a second is left out.
    """
    pages = await asyncio.gather(*(_scrape(path) for path in paths))
    alive = [(path, page) for path, page in zip(paths, pages, strict=True) if page is not None]
    count = Counter(_owner(path)[0] for path, _ in alive)
    families: dict[str, _Family] = {}
    for path, page in alive:
        role, pid = _owner(path)
        labels = f'role="{role}"' + (f',pid="{pid}"' if count[role] > 1 else "")
        _merge(families, page.splitlines(), labels)
    return "".join(f"{line}\n" for family in families.values() for line in (*family.head.values(), *family.samples))


async def _scrape(path: Path) -> str | None:
    try:
        async with asyncio.timeout(SCRAPE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                page = bytearray()
                while chunk := await reader.read(65536):
                    page += chunk
                    if len(page) > _LARGEST_PAGE:
                        return None
                return page.decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, UnicodeDecodeError):
        return None


def _owner(path: Path) -> tuple[str, str]:
    match = _SOCKET.fullmatch(path.name)
    return (match["role"], match["pid"]) if match else (path.stem, "")


def _merge(families: dict[str, _Family], lines: Iterable[str], labels: str) -> None:
    """Add one page. A sample belongs to the family whose head came last: that is how pages are written."""
    current: _Family | None = None
    for line in lines:
        if line.startswith(("# HELP ", "# TYPE ")):
            _, kind, name, *_ = line.split(" ", 3)
            current = families.setdefault(name, _Family())
            current.head.setdefault(kind, line)
        elif current is not None and (match := _SAMPLE.fullmatch(line)):
            own = f"{labels},{match['labels']}" if match["labels"] else labels
            current.samples.append(f"{match['name']}{{{own}}}{match['value']}")
