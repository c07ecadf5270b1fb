"""Batch tickets: what a row of a batch shows to a gateway instead of an API key.

The runner knows whose key made a batch but not its secret, so it signs a statement that gateways of this installation
believe: the row runs on that key, is recorded under that id, and belongs to that batch.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from skerry.runtime.secrets import Keyring

SCHEME: Final = "Skerry-Batch"
PURPOSE: Final = b"skerry batch tickets v1"
LONGEST: Final = 1024
"""Characters of a ticket."""


class BadTicket(Exception):
    """Not one of ours, changed, or too old; the message says which and is safe to show."""


class BatchTicket(msgspec.Struct, array_like=True, frozen=True):
    """One row's right to one answer. Fields are read by position: new ones go to the end, with a default."""

    key: str
    """Id of the API key the row runs on."""
    project: str
    batch: str
    line: int
    id: bytes
    """16 bytes: the id of the row's usage record, the same however often the row is sent."""
    expires: int
    """Unix seconds until which it is taken."""


class Tickets:
    """Signs with the first key, and believes those signed with any."""

    __slots__ = ("_decoder", "_encoder", "_keys")

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(BatchTicket)

    @classmethod
    def of(cls, keyring: Keyring) -> "Tickets":
        """With keys that serve for nothing else, derived from the installation's."""
        return cls(keyring.hmacs(PURPOSE))

    def sign(self, ticket: BatchTicket) -> str:
        """The value of an `Authorization` header."""
        payload = self._encoder.encode(ticket)
        mac = hmac.digest(self._keys[0], payload, "sha256")
        return f"{SCHEME} {_text(payload)}.{_text(mac)}"

    def verify(self, text: str, now: float) -> BatchTicket:
        """The ticket in the value of an `Authorization` header; `now` is Unix seconds. Raises BadTicket."""
        scheme, _, token = text.partition(" ")
        payload_text, dot, mac_text = token.strip().partition(".")
        if scheme.lower() != SCHEME.lower() or not dot or len(text) > LONGEST:
            raise BadTicket("this is no batch ticket")
        try:
            payload, mac = _bytes(payload_text), _bytes(mac_text)
        except (ValueError, binascii.Error):
            raise BadTicket("this is no batch ticket") from None
        if not any(hmac.compare_digest(mac, hmac.digest(key, payload, "sha256")) for key in self._keys):
            raise BadTicket("this batch ticket was not signed here")
        try:
            ticket = self._decoder.decode(payload)
        except msgspec.MsgspecError:
            raise BadTicket("this batch ticket is of another version") from None
        if len(ticket.id) != 16:
            raise BadTicket("this batch ticket is of another version")
        if ticket.expires <= now:
            raise BadTicket("this batch ticket has expired")
        return ticket


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
