"""What an input file of a batch must be, checked while it is uploaded: the purpose `batch` of files."""

from collections.abc import Mapping
from typing import Any

from skerry.artifacts.files.errors import BadFile
from skerry.inference.batches.model import MAX_LINE_BYTES, MAX_ROWS
from skerry.inference.batches.rules import BadLine, custom_id_digest, parse_line

_MEND = "Mend it and upload the file again."


class BatchCheck:
    """A `PurposeCheck`: each line is a request with a `custom_id` of its own. Empty lines are nothing.

    Facts: `rows`, and the names of the `models` asked for (the first hundred).
    """

    def __init__(self, most_rows: int = MAX_ROWS) -> None:
        self._most_rows = most_rows
        self._rest = bytearray()
        self._number = 0
        self._rows = 0
        self._models: dict[str, None] = {}
        self._seen: dict[bytes, int] = {}

    def feed(self, chunk: bytes) -> None:
        """Raises BadFile, naming the line."""
        if b"\n" in chunk:
            lines = chunk.split(b"\n")
            self._line(bytes(self._rest) + lines[0])
            for line in lines[1:-1]:
                self._line(line)
            self._rest = bytearray(lines[-1])
        else:
            self._rest += chunk
        if len(self._rest) > MAX_LINE_BYTES:
            words = f"it is longer than {MAX_LINE_BYTES} bytes."
            raise BadFile(words, line=self._number + 1, code="line_too_long", suggestion=_MEND)

    def finish(self) -> Mapping[str, Any]:
        """Raises BadFile."""
        if self._rest:
            self._line(bytes(self._rest))
        if not self._rows:
            raise BadFile("The file has no rows.", code="empty_file", suggestion="Give one request in each line.")
        return {"rows": self._rows, "models": list(self._models)}

    def _line(self, line: bytes) -> None:
        self._number += 1
        if not line.strip():
            return
        self._rows += 1
        if self._rows > self._most_rows:
            words = f"a batch has {self._most_rows} rows at most."
            raise BadFile(words, line=self._number, code="too_many_rows", suggestion="Split the file.")
        try:
            row = parse_line(self._number, line)
        except BadLine as bad:
            raise BadFile(bad.error.message, line=self._number, code=bad.error.code, suggestion=_MEND) from None
        first = self._seen.setdefault(custom_id_digest(row.custom_id), self._number)
        if first != self._number:
            words = f"custom_id {row.custom_id[:100]!r} is that of line {first} too."
            raise BadFile(words, line=self._number, code="duplicate_custom_id", suggestion=_MEND)
        if len(self._models) < 100:
            self._models.setdefault(row.model[:200])
