"""Removing what is in a volume: a job of our own on a node of its site, since only an engine reaches nodes."""

import json
import sys
from typing import Final

from skerry.artifacts.volumes.model import Volume, WipeLook, WipeState
from skerry.artifacts.volumes.service import Volumes
from skerry.compute.model import Drop, Outcome, WorkloadKind, WorkloadSpec, WorkloadStatus
from skerry.compute.service import Compute
from skerry.db.database import Tx
from skerry.kernel.paging import PageRequest

PROGRAM: Final = "skerry.artifacts.volumes.wipe"
_FILE: Final = "wipe.json"


class WorkloadWiper:
    """Implements `Wiper` of volumes."""

    def __init__(self, compute: Compute, volumes: Volumes, *, python: str = sys.executable) -> None:
        self._compute = compute
        self._volumes = volumes
        self._python = python

    async def wipe(self, tx: Tx, volume: Volume) -> WipeLook:
        newest = (await self._compute.list(tx, volume.project, PageRequest(1), resource=volume.id)).data
        if newest and newest[0].status is not WorkloadStatus.ENDED:
            return WipeLook(WipeState.RUNNING, f"Workload {newest[0].id}: {newest[0].reason.message}")
        if newest and newest[0].outcome is Outcome.SUCCEEDED:
            attempt = newest[0].attempt
            report = dict(attempt.report or {}) if attempt is not None else {}
            node = attempt.nodes[0] if attempt is not None else ""
            return WipeLook(WipeState.DONE, "What was in it is removed.", {**report, "node": node})
        words = f"Workload {newest[0].id}: {newest[0].reason.message}" if newest else ""
        await self._compute.create_workload(tx, volume.project, self._spec(volume))
        return WipeLook(WipeState.FAILED if newest else WipeState.RUNNING, words)

    def _spec(self, volume: Volume) -> WorkloadSpec:
        place = {"root": str(self._volumes.require_folder()), "project": volume.project, "volume": volume.id}
        return WorkloadSpec(
            kind=WorkloadKind.JOB,
            name=f"wipe of volume {volume.name}",
            resource=volume.id,
            command=(self._python, "-I", "-m", PROGRAM),
            accelerators=0,
            files={_FILE: json.dumps(place)},
            max_restarts=2,
            drop=Drop.NEVER,
            site=volume.site,
        )
