"""Reads the header of a GGUF file: what the weights say of themselves, and whether the file is whole.

The file may be anything. Every length in it is checked against what is left to read before anything is allocated;
whatever does not fit is a BadWeights with words, never a crash. Layout: ggml/docs/gguf.md (versions 2 and 3).
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from skerry.artifacts.errors import BadWeights

MAX_HEADER: Final = 256 * 1024**2
"""Bytes of metadata that are read at most; vocabularies of today's models take about 20 MB."""
MAX_ENTRIES: Final = 65_536
MAX_TENSORS: Final = 1_000_000
MAX_STRINGS: Final = 4_000_000
"""Strings in arrays (tokens, merges) that are stepped over at most."""
MAX_KEY: Final = 65_535
MAX_TEXT: Final = 4 * 1024**2
"""Longest string that is kept: a chat template."""
MAX_NUMBERS: Final = 65_536
"""Longest array of numbers that is kept: one for each layer."""

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}

Value = str | int | float | bool | list[int | float | bool]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`metadata` without arrays of strings and whatever is longer than we use."""

    version: int
    tensors: int
    parameters: int
    metadata: dict[str, Value]

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> int | None:
        """An integer above zero; the largest, where there is one for each layer."""
        value = self.metadata.get(key)
        if isinstance(value, list):
            value = max(value, default=0)
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if value > 0 else None

    def numbers(self, key: str, count: int) -> Sequence[int] | None:
        """One integer for each of `count` layers."""
        value = self.metadata.get(key)
        if isinstance(value, list):
            found = [item for item in value if isinstance(item, int) and not isinstance(item, bool) and item >= 0]
            return found if len(found) == count else None
        number = self.number(key)
        return None if number is None else [number] * count


def read_header(path: Path) -> GgufHeader:
    """Raises BadWeights for what is no whole GGUF file, OSError for what cannot be read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _Reader(file, size).header()


class _Reader:
    """Steps through the header. `_left`: bytes that may still be read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = min(size, MAX_HEADER)
        self._strings = 0

    def header(self) -> GgufHeader:
        if self._size < 24 or self._take(4) != b"GGUF":
            raise BadWeights("it is not a GGUF file: it does not begin with the letters GGUF", code="not_gguf")
        version = int(self._scalar("<I"))
        if version not in (2, 3):
            raise BadWeights(_version_words(version), code="gguf_version")
        tensors, entries = int(self._scalar("<Q")), int(self._scalar("<Q"))
        if entries > MAX_ENTRIES or tensors > MAX_TENSORS:
            raise _damaged(f"{entries} metadata entries and {tensors} tensors are more than any model has")
        metadata: dict[str, Value] = {}
        for _ in range(entries):
            key = self._text(MAX_KEY, "a metadata key")
            value = self._value(int(self._scalar("<I")))
            if value is not None:
                metadata[key] = value
        parameters, last = self._tensors(tensors)
        self._require_whole(metadata, last)
        return GgufHeader(version, tensors, parameters, metadata)

    def _tensors(self, count: int) -> tuple[int, int]:
        """How many numbers the tensors have in all, and where the last one begins."""
        parameters = last = 0
        for _ in range(count):
            self._skip_string()
            dimensions = int(self._scalar("<I"))
            if dimensions > 8:
                raise _damaged(f"a tensor with {dimensions} dimensions")
            elements = 1
            for size in struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions)):
                elements *= size
            self._skip(4)
            last = max(last, int(self._scalar("<Q")))
            parameters += elements
        return parameters, last

    def _require_whole(self, metadata: dict[str, Value], last: int) -> None:
        alignment = metadata.get("general.alignment", 32)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise _damaged(f"an alignment of {alignment!r}")
        begin = -(-self._file.tell() // alignment) * alignment
        if last and begin + last >= self._size:
            raise BadWeights(
                f"it ends after {self._size} bytes, before its last tensor at {begin + last}",
                suggestion="Download or copy it again: it was cut short.",
                code="gguf_truncated",
            )

    def _value(self, kind: int) -> Value | None:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._kept_text()
        if kind == _ARRAY:
            return self._array()
        raise _damaged(f"a value of unknown type {kind}")

    def _array(self) -> Value | None:
        kind, count = int(self._scalar("<I")), int(self._scalar("<Q"))
        if kind == _STRING:
            self._strings += count
            if self._strings > MAX_STRINGS:
                raise _damaged(f"{self._strings} strings in its metadata")
            for _ in range(count):
                self._skip_string()
            return None
        if kind not in _SCALARS:
            # Arrays of arrays are allowed on paper and used by nobody.
            raise _damaged(f"an array of type {kind}")
        form = _SCALARS[kind]
        width = struct.calcsize(form)
        if count > MAX_NUMBERS:
            self._skip(count * width)
            return None
        return list(struct.unpack(f"<{count}{form[1]}", self._take(count * width)))

    def _scalar(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _kept_text(self) -> str | None:
        length = self._length()
        if length > MAX_TEXT:
            self._skip(length)
            return None
        return self._take(length).decode("utf-8", "replace").replace("\x00", "")

    def _text(self, longest: int, what: str) -> str:
        length = self._length()
        if length > longest:
            raise _damaged(f"{what} of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _skip_string(self) -> None:
        self._skip(self._length())

    def _length(self) -> int:
        return int(self._scalar("<Q"))

    def _take(self, count: int) -> bytes:
        self._spend(count)
        data = self._file.read(count)
        if len(data) != count:
            raise _damaged("it ends in the middle of its header")
        return data

    def _skip(self, count: int) -> None:
        self._spend(count)
        self._file.seek(count, os.SEEK_CUR)

    def _spend(self, count: int) -> None:
        if count > self._left:
            words = "it ends in the middle of its header" if self._left < MAX_HEADER else "its header is too large"
            raise _damaged(words)
        self._left -= count


def _damaged(what: str) -> BadWeights:
    return BadWeights(
        f"it is not a whole GGUF file: {what}",
        suggestion="Download or copy the file again, or convert it with llama.cpp's convert_hf_to_gguf.py.",
        code="bad_gguf",
    )


def _version_words(version: int) -> str:
    if version > 0xFFFF:
        return "it is a big-endian GGUF file; only little-endian ones can be served"
    return f"it is GGUF version {version}; versions 2 and 3 can be served"
