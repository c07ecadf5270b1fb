"""Prompts and answers, sealed for one project and one request before they are written anywhere."""

import zlib

import msgspec

from skerry.inference.requests.model import Content
from skerry.runtime.journal.records import ContentRecord
from skerry.runtime.secrets import Keyring

KEPT_BYTES = 64 * 1024
"""Of the request, and of the answer."""
_QUICK = 1
_MOST_BYTES = 4 * KEPT_BYTES
"""More than what was sealed can unfold to."""


class _Sealed(msgspec.Struct, array_like=True, frozen=True):
    request: bytes
    answer: bytes
    request_bytes: int
    answer_bytes: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Sealed)


class ContentSealer:
    """Seals in the gateway, so that neither journal nor database ever holds a customer's words in the clear."""

    __slots__ = ("_keyring",)

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, id: bytes, project: str, at: int, request: bytes, answer: bytes) -> ContentRecord:
        """A record for the journal. `id` is the answer's, `at` Unix microseconds; 0.1 to 1 ms of work."""
        whole = _Sealed(request[:KEPT_BYTES], answer[:KEPT_BYTES], len(request), len(answer))
        packed = zlib.compress(_encoder.encode(whole), _QUICK)
        return ContentRecord(id, project, at, self._keyring.seal(packed, _purpose(project, id)))

    def open(self, id: bytes, project: str, sealed: bytes) -> Content:
        """Raises Undecryptable for another project's, another request's, and what was changed."""
        packed = self._keyring.unseal(sealed, _purpose(project, id))
        whole = _decoder.decode(zlib.decompressobj().decompress(packed, _MOST_BYTES))
        return Content(whole.request, whole.answer, whole.request_bytes, whole.answer_bytes)


def _purpose(project: str, id: bytes) -> str:
    return f"request content of {project}, {id.hex()}"
