"""A `multipart/form-data` body taken apart while it comes: the file's bytes are handed on, never collected."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from skerry.artifacts.files.errors import BadUpload
from skerry.kernel.errors import FieldError

FILE_PART: Final = "file"
MOST_PARTS: Final = 16
LONGEST_FIELD: Final = 1024
"""Bytes of the value of a field."""
OVERHEAD: Final = 64 * 1024
"""Bytes that a form may have beside its file, at most."""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegins:
    filename: str


@dataclass(frozen=True, slots=True)
class FileBytes:
    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnds:
    pass


Piece = Field | FileBegins | FileBytes | FileEnds


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    is_file: bool = False
    value: bytearray = field(default_factory=bytearray)


class FormSplitter:
    """`feed` it the body in pieces cut anywhere, then call `end`. Raises BadUpload for what is no such form.

    There is one file, in the part `file`; each field comes once.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
            raise BadUpload(
                "The body is not a form with a file.",
                code="not_multipart",
                suggestion="Send Content-Type: multipart/form-data with the parts purpose and file.",
            )
        self._pieces: list[Piece] = []
        self._part = _Part()
        self._name, self._value = bytearray(), bytearray()
        self._seen: set[str] = set()
        self._parts = self._overhead = 0
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=8,
            max_header_size=4096,
        )

    def feed(self, data: bytes) -> Iterator[Piece]:
        """What has become clear by this piece of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadUpload(f"The form cannot be read: {error}.", code="bad_form") from None
        pieces, self._pieces = self._pieces, []
        return iter(pieces)

    def end(self) -> None:
        if not self._complete:
            raise BadUpload("The form ends before its last boundary.", code="truncated")
        if FILE_PART not in self._seen:
            raise missing(FILE_PART)

    # --- called by the parser
    def _on_part_begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise BadUpload(f"The form has more than {MOST_PARTS} parts.", code="bad_form")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._count(len(self._name) + len(self._value))
        self._part.headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get(b"content-disposition"))
        part.name = _text(options.get(b"name", b""), "the name of a part")
        if kind != b"form-data" or not part.name:
            raise BadUpload("A part of the form has no name.", code="bad_form")
        if part.name in self._seen:
            raise _bad(part.name, "it came twice", "repeated")
        self._seen.add(part.name)
        if part.name == FILE_PART:
            if b"filename" not in options:
                raise _bad(FILE_PART, "it has no file name: send it as a file, not as text", "not_a_file")
            part.is_file = True
            self._pieces.append(FileBegins(_text(options[b"filename"], FILE_PART)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._pieces.append(FileBytes(data[start:end]))
            return
        self._count(end - start)
        self._part.value += data[start:end]
        if len(self._part.value) > LONGEST_FIELD:
            raise _bad(self._part.name, f"it is longer than {LONGEST_FIELD} bytes", "too_long")

    def _on_part_end(self) -> None:
        part = self._part
        if part.is_file:
            self._pieces.append(FileEnds())
        else:
            self._pieces.append(Field(part.name, _text(bytes(part.value), part.name)))

    def _on_end(self) -> None:
        self._complete = True

    def _count(self, size: int) -> None:
        self._overhead += size
        if self._overhead > OVERHEAD:
            raise BadUpload(f"The form has more than {OVERHEAD} bytes beside its file.", code="bad_form")


def missing(name: str) -> BadUpload:
    return _bad(name, "it is missing", "missing")


def _bad(name: str, words: str, code: str) -> BadUpload:
    return BadUpload(f"{name[:64]}: {words}.", code=code, errors=[FieldError(name[:64], code, words)])


def _text(value: bytes, where: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _bad(where, "it is not UTF-8", "not_utf8") from None
    if "\x00" in text:
        raise _bad(where, "it has a NUL character", "nul_byte")
    return text
