"""Volumes over time: their byte-seconds become facts hour by hour, and what was deleted is wiped."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Protocol

from skerry.artifacts.volumes import rules
from skerry.artifacts.volumes.model import Volume, VolumeReason, VolumeStatus, WipeLook, WipeState
from skerry.artifacts.volumes.service import KIND, Volumes
from skerry.artifacts.volumes.store import Claimed
from skerry.db.database import Tx
from skerry.kernel.clock import floor_hour, rfc3339
from skerry.runtime.state import Reason

LEASE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 60.0


class Wiper(Protocol):
    """Removes what is in a volume, where it lies (compute: only an engine reaches nodes)."""

    async def wipe(self, tx: Tx, volume: Volume) -> WipeLook:
        """Begin with it, or say how far it is. After FAILED the next call begins anew."""
        ...


class VolumeReconciler:
    """Run it with `Loop(…, wake=wakes.event("volume"))`."""

    kind = KIND

    def __init__(self, volumes: Volumes, wiper: Wiper) -> None:
        self.volumes = volumes
        self.wiper = wiper
        self.store = volumes.store

    async def claim(self, limit: int) -> Sequence[Claimed]:
        async with self.volumes.db.transaction() as tx:
            return await self.store.claim(tx, self.volumes.clock.now(), limit, LEASE_SECONDS)

    async def step(self, row: Claimed) -> None:
        """All there is to know is in the database."""

    async def apply(self, row: Claimed, change: None) -> bool:
        async with self.volumes.db.transaction() as tx:
            volume = await self.store.lock(tx, row)
            if volume is None:
                return False
            if volume.status is VolumeStatus.READY:
                return await self._meter(tx, row, volume)
            if volume.status is VolumeStatus.DELETING:
                return await self._wipe(tx, row, volume)
            await self.store.release(tx, row, {"due_at": None})
            return False

    async def failed(self, row: Claimed, error: Exception) -> None:
        async with self.volumes.db.transaction() as tx:
            due = self.volumes.clock.now() + timedelta(seconds=_RETRY_SECONDS)
            await self.store.release(tx, row, {"due_at": due})

    async def _meter(self, tx: Tx, row: Claimed, volume: Volume) -> bool:
        now = self.volumes.clock.now()
        through = floor_hour(now)
        values: dict[str, object] = {"due_at": rules.next_metering(now)}
        if through > (volume.metered_through or volume.created_at):
            await self.volumes.take_in(tx, rules.storage_facts(volume, through))
            values["metered_through"] = through
        await self.store.release(tx, row, values)
        return "metered_through" in values

    async def _wipe(self, tx: Tx, row: Claimed, volume: Volume) -> bool:
        now = self.volumes.clock.now()
        if volume.used_at is None:
            return await self._gone(tx, row, volume, VolumeReason.NEVER_USED, WipeLook(WipeState.DONE))
        look = await self.wiper.wipe(tx, volume)
        if look.state is WipeState.DONE:
            return await self._gone(tx, row, volume, VolumeReason.WIPED, look)
        failed = look.state is WipeState.FAILED
        reason = Reason(VolumeReason.WIPE_FAILED if failed else VolumeReason.WIPING, look.message)
        seconds = _RETRY_SECONDS if failed else _LOOK_SECONDS
        values = {"due_at": now + timedelta(seconds=seconds), "status_reason": reason.to_json()}
        await self.store.release(tx, row, values)
        return False

    async def _gone(self, tx: Tx, row: Claimed, volume: Volume, why: VolumeReason, look: WipeLook) -> bool:
        now = self.volumes.clock.now()
        record = {"at": rfc3339(now), "how": why.value, **look.record}
        volume = replace(volume, wipe=record)
        await self.volumes.move(tx, volume, VolumeStatus.DELETED, why, look.message, values={"wipe": record})
        await self.store.release(tx, row, {"due_at": None})
        return True
