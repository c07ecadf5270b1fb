"""Refusals of volumes. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Invalid, NoCapacity, NotFound, RateLimited, Unavailable

_GIB = 1024**3


class UnknownVolume(NotFound):
    code = "unknown_volume"


class BadVolume(Invalid):
    """Subcodes and fields say what is wrong with what was asked for."""

    code = "bad_volume"


class VolumeNameTaken(Conflict):
    code = "volume_name_taken"


class VolumeInUse(Conflict):
    """Somebody has it attached: to be deleted it must be free, to be written it must be theirs alone."""

    code = "volume_in_use"


class VolumesQuotaExceeded(RateLimited):
    """The project's volumes have as much room as they may; deleting some makes more."""

    code = "volumes_quota_exceeded"


class NoVolumeRoom(NoCapacity):
    """The storage has less left than was asked for; `free_bytes` says how much."""

    code = "no_volume_room"


class NoVolumeStorage(Unavailable):
    """The operator has not said where volumes are to lie."""

    code = "no_volume_storage"


def gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
