"""For programs that are trained: tell how far they are, learn where to go on and when to stop.

    from skerry.training import user

    start = user.latest_checkpoint()            # the newest complete step_<n> below SKERRY_CHECKPOINT_DIR, or None
    user.step(n)                                # after each step, on every rank
    if user.should_stop(): ...                  # save, and end: agree on it with all ranks first (an all_reduce)

All of it is optional: without Skerry around, nothing happens. Standard library only; no call blocks.
"""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from skerry.training.rules.checkpoints import Folder, newest_complete


def step(number: int, *, busy_seconds: float | None = None) -> None:
    """Step `number` (from 1) is done. `busy_seconds`: how long this rank worked on it without waiting for others, which
    is what tells a straggler from those who wait for it.
    """
    _tell(f"s {_rank()} {number} {-1 if busy_seconds is None else round(busy_seconds * 1e6)}")


def saved(stall_seconds: float) -> None:
    """A checkpoint has held up this rank for so long."""
    _tell(f"c {_rank()} {round(stall_seconds * 1e3)}")


def alive() -> None:
    """Still at work, though no step is done: evaluation, a long compilation, reading data."""
    _tell(f"a {_rank()}")


def should_stop() -> bool:
    """Whether this job was asked to save and end. Ranks may learn of it at different steps: agree before acting on it.

    SIGTERM says the same and would end a program that has no handler for it. Who asks here need not have one: from the
    first call on it is ignored, unless the program handles it.
    """
    path = os.environ.get("SKERRY_STOP_FILE")
    if not path:
        return False
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Path(path).exists()


def checkpoint_folder() -> Path | None:
    path = os.environ.get("SKERRY_CHECKPOINT_DIR")
    return Path(path) if path else None


def latest_checkpoint(folder: Path | None = None) -> Path | None:
    """The newest `step_<n>` that was complete when this generation of ranks was started: the same one on every rank."""
    chosen = os.environ.get("SKERRY_RESUME_FROM")
    if folder is None and chosen is not None:
        return Path(chosen) if chosen else None
    folder = folder or checkpoint_folder()
    if folder is None or not folder.is_dir():
        return None
    newest = newest_complete(folders(folder))
    return folder / newest.name if newest else None


def folders(folder: Path) -> list[Folder]:
    """What lies below the checkpoint folder."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("step_") and entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    found.append(Folder(entry.name, tuple(os.listdir(entry.path))))
    return found


def _rank() -> str:
    return os.environ.get("RANK", "0")


def _tell(line: str) -> None:
    fd = os.environ.get("SKERRY_STEP_FD")
    if fd:
        with suppress(OSError, ValueError):  # nobody listens any more, or the pipe is full: it is only news
            os.write(int(fd), f"{line}\n".encode())
