"""Decisions about files: names, expiry, byte-seconds. Pure."""

from datetime import datetime, timedelta
from typing import Final

from skerry.artifacts.files.errors import BadUpload
from skerry.artifacts.files.model import File
from skerry.kernel.clock import floor_hour, hours, rfc3339
from skerry.kernel.errors import FieldError
from skerry.kernel.ids import derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact

EXPIRY_SECONDS: Final = (3600, 30 * 24 * 3600)
"""OpenAI's bounds of `expires_after[seconds]`: an hour to 30 days."""
LONGEST_NAME: Final = 255
_SECOND: Final = timedelta(seconds=1)


def check_filename(name: str) -> str:
    """The last part of a path; some clients send the whole of it. Raises BadUpload."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not last or len(last) > LONGEST_NAME or not last.isprintable():
        raise _bad("file", f"the file needs a name of 1 to {LONGEST_NAME} printable characters")
    return last


def check_expiry(seconds: int | None) -> int | None:
    low, high = EXPIRY_SECONDS
    if seconds is not None and not low <= seconds <= high:
        raise _bad("expires_after[seconds]", f"it must lie between {low} and {high}")
    return seconds


def is_gone(file: File, now: datetime) -> bool:
    """By time alone, whether or not the sweeper has been there."""
    return file.deleted_at is not None or (file.expires_at is not None and file.expires_at <= now)


def end_of(file: File, now: datetime) -> datetime:
    """When a file that goes now was last there: what expired did so then, however late somebody looks."""
    end = now if file.expires_at is None else min(now, file.expires_at)
    return max(end, file.metered_through or file.created_at)


def metered_until(file: File, now: datetime) -> datetime:
    """Up to where the byte-seconds of a file that stays can be facts: full hours only."""
    hour = floor_hour(now)
    return hour if file.expires_at is None else min(hour, file.expires_at)


def storage_facts(file: File, through: datetime) -> list[UsageFact]:
    """One for each clock hour since `metered_through`, up to `through`: a full hour, or the end of the file.

    Seconds are whole, counted from `created_at`: the sum over all hours is bytes × the whole seconds it was there.
    """
    facts = []
    for t0, t1 in hours(file.metered_through or file.created_at, through):
        seconds = (t1 - file.created_at) // _SECOND - (t0 - file.created_at) // _SECOND
        if file.bytes and seconds:
            facts.append(_fact(file, t0, t1, file.bytes * seconds))
    return facts


def _fact(file: File, t0: datetime, t1: datetime, quantity: int) -> UsageFact:
    meter = Meter.STORAGE_BYTE_SECONDS
    return UsageFact(
        id=derived_uuid("file", file.id, meter.value, rfc3339(floor_hour(t0))),
        meter=meter,
        quantity=quantity,
        project=file.project,
        resource=file.id,
        t0=t0,
        t1=t1,
        dims=Dims.of({}),
    )


def _bad(path: str, words: str) -> BadUpload:
    return BadUpload(f"{path}: {words}", errors=[FieldError(path, "bad_upload", words)])
