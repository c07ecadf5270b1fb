"""How records lie in a file.

A journal is a folder of segments `00000001.seg`, …, each of a fixed size allocated beforehand, so that a record that
was promised room always has it. A frame is `length u32 · crc32 u32 · payload` (little endian); the checksum covers
length and payload. Length 0 means that nothing was written from here on. A frame whose checksum does not fit is a torn
tail: whoever wrote it died in the middle of it.
"""

import struct
import zlib
from pathlib import Path
from typing import Final

HEADER: Final = struct.Struct("<II")
SEGMENT_BYTES: Final = 16 * 1024 * 1024
MAX_PAYLOAD: Final = 256 * 1024
LOCK_FILE: Final = "lock"
SHIP_LOCK_FILE: Final = "ship.lock"
_UNFINISHED: Final = "."
"""Before the name of a folder whose writer does not hold it yet. Nothing was recorded in it."""


def unfinished(folder: Path) -> Path:
    """What a journal's folder is called until it is locked and has its first segment."""
    return folder.with_name(_UNFINISHED + folder.name)


def is_unfinished(folder: Path) -> bool:
    return folder.name.startswith(_UNFINISHED)


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.seg"


def segment_numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.seg") if path.stem.isdigit())


def checksum(payload: bytes) -> int:
    return zlib.crc32(payload, len(payload))


def frame(payload: bytes) -> bytes:
    return HEADER.pack(len(payload), checksum(payload)) + payload
