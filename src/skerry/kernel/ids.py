"""Identifiers: a prefix that says what it is, then 128 bits that sort by time.

The 128 bits are laid out as a UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then random bits.
They are written in Crockford base 32, whose alphabet sorts like the numbers it encodes.
"""

import os
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import NewType
from uuid import UUID

OrganizationId = NewType("OrganizationId", str)
ProjectId = NewType("ProjectId", str)
UserId = NewType("UserId", str)
MemberId = NewType("MemberId", str)
ServiceAccountId = NewType("ServiceAccountId", str)
KeyId = NewType("KeyId", str)
SiteId = NewType("SiteId", str)
HallId = NewType("HallId", str)
LeafId = NewType("LeafId", str)
NodeId = NewType("NodeId", str)
SkuId = NewType("SkuId", str)
WorkloadId = NewType("WorkloadId", str)
AttemptId = NewType("AttemptId", str)
ModelId = NewType("ModelId", str)
EndpointId = NewType("EndpointId", str)
ReplicaId = NewType("ReplicaId", str)
BudgetId = NewType("BudgetId", str)
FileId = NewType("FileId", str)
BatchId = NewType("BatchId", str)
QuoteId = NewType("QuoteId", str)
OfferId = NewType("OfferId", str)
ReservationId = NewType("ReservationId", str)
ClaimId = NewType("ClaimId", str)
ContractId = NewType("ContractId", str)
DeliveryId = NewType("DeliveryId", str)
MaintenanceId = NewType("MaintenanceId", str)
TrainingJobId = NewType("TrainingJobId", str)
InstanceId = NewType("InstanceId", str)
ClusterId = NewType("ClusterId", str)
VolumeId = NewType("VolumeId", str)
SshKeyId = NewType("SshKeyId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26

IdFactory = Callable[[str], str]


def new_uuid7(milliseconds: int | None = None) -> UUID:
    """A fresh UUIDv7; `milliseconds` since the epoch are read from the system clock unless given."""
    stamp = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    value = (stamp & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=_stamp_version(value, 7))


def new_id(prefix: str) -> str:
    """A new identifier such as `wl_01jd…`; later ones sort after earlier ones (to the millisecond)."""
    return format_id(prefix, new_uuid7())


def format_id(prefix: str, value: UUID) -> str:
    number, text = value.int, []
    for _ in range(_LENGTH):
        text.append(_ALPHABET[number & 31])
        number >>= 5
    # OpenAI's own objects (`file-…`, `ftjob-…`) join with a dash, ours with an underscore.
    joint = "" if prefix.endswith(("-", "_")) else "_"
    return f"{prefix}{joint}{''.join(reversed(text))}"


def derived_uuid(*parts: str) -> UUID:
    """The same parts give the same id, for facts that may be sent twice (RFC 9562 §5.8, version 8)."""
    digest = blake2b("\x1f".join(parts).encode(), digest_size=16).digest()
    return UUID(int=_stamp_version(int.from_bytes(digest), 8))


def derived_uuid7(milliseconds: int, *parts: str) -> UUID:
    """As `derived_uuid`, but laid out as a UUIDv7 of this moment: where an id has to sort by time like its fellows."""
    digest = blake2b("\x1f".join(parts).encode(), digest_size=10).digest()
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(digest)
    return UUID(int=_stamp_version(value, 7))


def _stamp_version(value: int, version: int) -> int:
    value = value & ~(0xF << 76) | version << 76
    return value & ~(0x3 << 62) | 0x2 << 62
