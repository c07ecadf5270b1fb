"""Refusals of files. Codes are part of the public surface."""

from collections.abc import Sequence
from typing import ClassVar

from skerry.kernel.errors import FieldError, Malformed, NotFound, RateLimited, SkerryError, TooLarge, Unavailable

_MIB = 1024**2


class UnknownFile(NotFound):
    code = "unknown_file"


class BadUpload(Malformed):
    """The form is not what `/v1/files` takes; `param` names the part."""

    code = "bad_upload"


class BadFile(Malformed):
    """The bytes are not what the purpose needs. `line`, counted from 1, is put before the words."""

    code = "invalid_file"

    def __init__(
        self,
        detail: str,
        *,
        line: int | None = None,
        suggestion: str = "",
        code: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        words = detail if line is None else f"Line {line}: {detail}"
        extra = {} if line is None else {"line": line}
        errors = errors or (FieldError("file", code or self.code, words),)
        super().__init__(words, suggestion=suggestion, code=code, errors=errors, extra=extra)
        self.line = line


class UnknownPurpose(Malformed):
    code = "unknown_purpose"

    def __init__(self, purpose: str, known: Sequence[str]) -> None:
        words = f"{purpose[:64]!r} is not a purpose; there are {', '.join(known) or 'none'}."
        super().__init__(words, errors=[FieldError("purpose", self.code, words)])


class FileTooLarge(TooLarge):
    code = "file_too_large"

    def __init__(self, limit: int) -> None:
        words = f"A file may have {limit} bytes ({limit // _MIB} MiB) at most."
        super().__init__(words, suggestion="Split it.", errors=[FieldError("file", self.code, words)])


class FilesQuotaExceeded(TooLarge):
    """No room left in the project; deleting files makes some. Not a 429: the same upload again would fail again."""

    code = "files_quota_exceeded"

    def __init__(self, limit: int, left: int) -> None:
        words = f"The files of this project may have {limit} bytes in all; {left} are left."
        suggestion = "Delete files that are not needed, or ask your operator for more."
        super().__init__(words, suggestion=suggestion, errors=[FieldError("file", self.code, words)])


class TooManyFiles(RateLimited):
    code = "too_many_files"

    def __init__(self, limit: int) -> None:
        words = f"A project may have {limit} files, and this one has."
        super().__init__(words, suggestion="Delete files that are not needed.", retry_after=60)


class UploadStalled(Malformed):
    code = "upload_stalled"


class UploadLost(Unavailable):
    """The upload was given up while it was under way: this process was taken for dead."""

    code = "upload_lost"


class StorageFull(Unavailable):
    """The disk is (nearly) full: the operator's matter."""

    code = "storage_full"


class StorageFailed(Unavailable):
    """The disk or its folder refuses; the log says how."""

    code = "storage_failed"


class ContentLost(Unavailable):
    """The file is on record, its bytes are not in the storage."""

    code = "content_lost"


class RangeNotSatisfiable(SkerryError):
    status: ClassVar[int] = 416
    code = "range_not_satisfiable"
    title: ClassVar[str] = "There are no such bytes"
