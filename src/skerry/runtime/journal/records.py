"""What a gateway writes down: one record for each answer, and marks that say how far the journal is complete."""

from typing import Literal

import msgspec

Counted = Literal["engine", "gateway"]


class AnswerRecord(msgspec.Struct, array_like=True, tag="a", frozen=True):
    """One answer. Times are Unix microseconds; `t0` is admission, `t1` the moment the record was written.

    Fields are written by position: new ones go to the end, with a default (expand only).
    """

    id: bytes
    """16 bytes, UUIDv7; the ids of the facts derive from it."""
    project: str
    key: str
    model: str
    endpoint: str
    """The resource the usage is booked on."""
    replica: str
    site: str
    capacity_class: str
    charge_by: str
    prompt: int
    """Prompt tokens that were not cached."""
    cached: int
    completion: int
    egress_bytes: int
    """Body bytes of the answer, framing left out."""
    t0: int
    t1: int
    counted: Counted
    status: int
    """HTTP status the client saw; 499 where the client went away, 502 where the replica died in the middle."""
    leases: tuple[str, ...] = ()
    """Balance leases the cost was taken from: each of them bears the whole `cost_nano` (key, project, organization)."""
    cost_nano: int = 0
    batch: str = ""
    tags: dict[str, str] = {}
    stream: bool = False
    queue_us: int = 0
    """Waited for a replica, in microseconds."""
    first_us: int = 0
    """From admission to the first byte of the answer, in microseconds; 0: there was none."""
    kind: str = "chat"
    """`chat`, `completion` or `embedding`."""
    trace: str = ""
    """The client's `traceparent` header (W3C), where it sent a valid one."""


class Mark(msgspec.Struct, array_like=True, tag="m", frozen=True):
    """No answer admitted before `through` (Unix microseconds) will be recorded after this mark.

    Balance leases that ended before it can be closed: all they paid for has been written.
    """

    through: int


class ContentRecord(msgspec.Struct, array_like=True, tag="c", frozen=True):
    """What was asked and answered, of a project that wants it kept: sealed before it is written anywhere."""

    id: bytes
    """Of the answer's record."""
    project: str
    at: int
    """Unix microseconds."""
    sealed: bytes


Record = AnswerRecord | Mark | ContentRecord

encoder = msgspec.msgpack.Encoder()
decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
