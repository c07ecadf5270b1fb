"""Decisions about volumes: sizes, targets, who may share one, byte-seconds. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Final

from skerry.artifacts.volumes.errors import BadVolume, VolumeInUse, VolumesQuotaExceeded, gib
from skerry.artifacts.volumes.model import Volume, VolumeLimits, WantedVolume
from skerry.kernel.clock import floor_hour, hours, rfc3339
from skerry.kernel.errors import FieldError
from skerry.kernel.ids import derived_uuid
from skerry.metering.model import Dims, Meter, UsageFact

LEAST: Final = 1024**2
MOST: Final = 1024**5
"""Bytes of one volume."""
_SECOND: Final = timedelta(seconds=1)
_SYSTEM: Final = (
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
)


def choose_site(ref: str | None, allowed: Mapping[str, str], known: Collection[str]) -> str:
    """The name of the site asked for, or of the only one. `allowed`: names by name and id, of those where the project's
    data may be. Raises BadVolume."""
    names = sorted(set(allowed.values()))
    if ref is None and len(names) == 1:
        return names[0]
    if ref is None:
        words = f"there are several sites, so name one: {', '.join(names[:10])}" if names else "there is no site yet"
        raise bad("site", "missing", words)
    if ref in allowed:
        return allowed[ref]
    if ref in known:
        raise bad("site", "outside_jurisdiction", f"the project's data may not be at {ref[:100]!r}", names)
    raise bad("site", "unknown_site", f"there is no site {ref[:100]!r}", names)


def check_size(size: int, path: str = "bytes") -> int:
    if not LEAST <= size <= MOST:
        raise bad(path, "out_of_range", f"a volume has {LEAST} bytes (1 MiB) to {MOST} bytes (1 PiB)")
    return size


def check_quota(count: int, used: int, size: int, limits: VolumeLimits, path: str = "bytes") -> None:
    """Raises VolumesQuotaExceeded."""
    if count >= limits.count:
        words = f"a project may have {limits.count} volumes, and this one has"
        raise VolumesQuotaExceeded(words, suggestion="Delete volumes that are not needed.", retry_after=60)
    if used + size > limits.bytes:
        words = f"the volumes of this project may have {gib(limits.bytes)} in all; {gib(limits.bytes - used)} are left"
        raise VolumesQuotaExceeded(
            words,
            suggestion="Ask for less, or delete volumes that are not needed.",
            retry_after=60,
            errors=[FieldError(path, "volumes_quota_exceeded", words)],
        )


def check_targets(wanted: Sequence[WantedVolume], path: str = "volumes") -> None:
    """Absolute paths, none inside another, none of the system's own. Raises BadVolume."""
    seen: list[PurePosixPath] = []
    for number, one in enumerate(wanted):
        where = f"{path}.{number}.target"
        target = PurePosixPath(one.target)
        plain = one.target.isprintable() and not any(char in one.target for char in " :,\\\"'")
        if not target.is_absolute() or ".." in target.parts or not plain or len(one.target) > 200:
            raise bad(where, "bad_target", "it must be an absolute path without spaces, such as /data")
        if str(target) in _SYSTEM or target.is_relative_to("/proc") or target.is_relative_to("/dev"):
            raise bad(where, "bad_target", f"{target} is the system's own; take one such as /data")
        if any(target.is_relative_to(other) or other.is_relative_to(target) for other in seen):
            raise bad(where, "bad_target", f"{target} lies inside the path of another volume, or holds it")
        seen.append(target)


def check_shareable(volume: Volume, holder: str, *, read_only: bool, path: str) -> None:
    """One writer, or any number of readers. Raises VolumeInUse."""
    others = [one for one in volume.attachments if one.holder != holder]
    in_the_way = [one for one in others if not read_only or not one.read_only]
    if in_the_way:
        who = f"{in_the_way[0].holder_kind} {in_the_way[0].holder}"
        words = f"volume {volume.name} is attached to {who}"
        raise VolumeInUse(
            words,
            suggestion=f"Terminate {who}, or attach it read-only everywhere.",
            errors=[FieldError(path, "volume_in_use", words)],
        )


def storage_facts(volume: Volume, through: datetime) -> list[UsageFact]:
    """One for each clock hour since `metered_through`, up to `through`: a full hour, or the end of the volume.

    Seconds are whole, counted from `created_at`: the sum over all hours is bytes × the whole seconds it was there.
    """
    facts = []
    for t0, t1 in hours(volume.metered_through or volume.created_at, through):
        seconds = (t1 - volume.created_at) // _SECOND - (t0 - volume.created_at) // _SECOND
        if seconds:
            facts.append(_fact(volume, t0, t1, volume.bytes * seconds))
    return facts


def next_metering(now: datetime) -> datetime:
    return floor_hour(now) + timedelta(hours=1)


def bad(path: str, code: str, words: str, known: Sequence[str] = ()) -> BadVolume:
    suggestion = f"There are {', '.join(known[:20])}." if known else ""
    return BadVolume(f"{path}: {words}.", code=code, suggestion=suggestion, errors=[FieldError(path, code, words)])


def _fact(volume: Volume, t0: datetime, t1: datetime, quantity: int) -> UsageFact:
    meter = Meter.STORAGE_BYTE_SECONDS
    return UsageFact(
        id=derived_uuid("volume", volume.id, meter.value, rfc3339(floor_hour(t0))),
        meter=meter,
        quantity=quantity,
        project=volume.project,
        resource=volume.id,
        t0=t0,
        t1=t1,
        # So that a tier can have a price of its own.
        dims=Dims.of({"sku": f"volume.{volume.tier}", "site": volume.site}),
    )
