"""Files of purpose `source`: a customer's program as an archive, looked through while it is taken in."""

import tempfile
from collections.abc import Mapping
from typing import IO, Any, Final

from skerry.artifacts.archives import ArchiveLimits, UnsafeArchive, inspect
from skerry.artifacts.files.errors import BadFile

SOURCE: Final = "source"
SOURCE_BYTES: Final = 256 << 20
"""Largest archive: a program, not its data."""
_IN_MEMORY: Final = 4 << 20


class SourceCheck:
    """Implements `PurposeCheck`. What makes an archive dangerous can stand at its end, so it is kept until then."""

    def __init__(self, limits: ArchiveLimits = ArchiveLimits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - see finish

    def feed(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def finish(self) -> Mapping[str, Any]:
        with self._file as file:
            try:
                facts = inspect(file, self._limits)  # type: ignore[arg-type]
            except UnsafeArchive as error:
                raise BadFile(
                    f"This archive cannot be used: {error}.",
                    code=error.danger.value,
                    suggestion="Pack the folder anew, as .tar.gz or .zip; `skerry job run` does it for you.",
                ) from error
        return {"kind": facts.kind, "files": facts.files, "unpacked_bytes": facts.bytes}
