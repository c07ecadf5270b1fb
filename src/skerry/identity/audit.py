"""The arithmetic of the audit chain: pure, so that anyone can verify an export with it."""

import hashlib
import json
from typing import Any

from skerry.identity.model import AuditEvent
from skerry.kernel.clock import rfc3339

GENESIS = bytes(32)
"""`prev_hash` of an organization's first event."""


def canonical_json(value: Any) -> bytes:
    """One byte string for one value: sorted keys, no spaces, ASCII. Raises ValueError for floats.

    Floats are refused since what the database returns may be written differently from what went in.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def chain_hash(prev_hash: bytes, event: AuditEvent) -> bytes:
    """SHA-256 over the hash before and the canonical JSON of everything the event says."""
    return hashlib.sha256(prev_hash + canonical_json(content(event))).digest()


def content(event: AuditEvent) -> dict[str, Any]:
    """What is hashed."""
    return {
        "id": event.id,
        "organization": event.organization_id,
        "project": event.project_id,
        "seq": event.seq,
        "at": rfc3339(event.at),
        "key_id": event.key_id,
        "key_name": event.key_name,
        "origin": event.origin,
        "request_id": event.request_id,
        "action": event.entry.action,
        "resource": event.entry.resource,
        "outcome": str(event.entry.outcome),
        "detail": dict(event.entry.detail),
    }


def fault(event: AuditEvent, expected_seq: int, prev_hash: bytes) -> str | None:
    """Why the event does not follow the one before it; None where it does."""
    if event.seq < expected_seq:
        return f"event {event.seq} is there twice"
    if event.seq > expected_seq:
        return f"event {expected_seq} is missing"
    if event.prev_hash != prev_hash:
        return "it does not refer to the event before it"
    try:
        honest = chain_hash(prev_hash, event) == event.hash
    except ValueError:
        honest = False
    return None if honest else "its content does not match its hash"


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError("an audit event holds no floats: write a string")
    if isinstance(value, dict):
        for part in value.values():
            _refuse_floats(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_floats(part)
