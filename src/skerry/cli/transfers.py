"""Files on their way to the cloud and back, with something to look at."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from skerry.cli.failures import Failure, wrong_use
from skerry.cli.speech import printable
from skerry.client import ByteStream, Skerry
from skerry.client.answers.work import File


def upload(client: Skerry, path: Path, *, purpose: str, expires_after: int | None = None) -> File:
    """Send a file. Raises Failure where it cannot be read."""
    try:
        with shown(path.name, path.stat().st_size) as told:
            return client.files.upload(path, purpose=purpose, expires_after=expires_after, progress=told)
    except OSError as error:
        raise wrong_use(f"{path} cannot be read: {error.strerror}") from error


def download(client: Skerry, file_id: str, target: Path | None) -> int:
    """To `target`, which is there whole or not at all, or to stdout. Returns the number of bytes."""
    if target is None:
        with client.files.content(file_id) as content:
            return _copy(content, sys.stdout.buffer.write)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            client.files.content(file_id) as content,
            shown(target.name, content.size) as told,
        ):
            written = _copy(content, file.write, told)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _copy(content: ByteStream, write: Callable[[bytes], object], told: Callable[[int], None] | None = None) -> int:
    written = 0
    for piece in content:
        write(piece)
        written += len(piece)
        if told is not None:
            told(written)
    return written


@contextmanager
def shown(name: str, total: int | None) -> Iterator[Callable[[int], None] | None]:
    """A bar that is told how many bytes have gone; None where there is no terminal to draw one on."""
    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(printable(name), total=total)
        yield lambda done: progress.update(task, completed=done)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
