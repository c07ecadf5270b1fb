"""What tests of instances do again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skerry.compute.model import Outcome
from skerry.kernel.clock import FakeClock
from skerry.runtime.reconciler import Wakes
from skerry.server.compose import Services
from skerry.server.roles.controller import loops
from tests.compute.fake_engine import FakeEngine
from tests.server.conftest import Cloud

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
KINDS = ("outbox", "workload", "instance", "volume")


@dataclass
class Scene:
    cloud: Cloud
    services: Services
    engine: FakeEngine
    clock: FakeClock

    async def settle(self) -> None:
        """Reconcile until nothing changes any more."""
        every = {loop.reconciler.kind: loop.reconciler for loop in loops(self.services, Wakes(), lambda *_: None)}
        for _ in range(50):
            moved = False
            for kind in KINDS:
                reconciler = every[kind]
                for row in await reconciler.claim(20):
                    moved |= await reconciler.apply(row, await reconciler.step(row))
            if not moved:
                return
        raise AssertionError("it never comes to rest")

    async def look(self) -> None:
        """As the engine's events would have it: look at everything, then settle."""
        self.clock.advance(seconds=60)
        await self.settle()

    def gang(self, workload: str) -> Any:
        return next(gang for gang in self.engine.submitted[::-1] if gang.workload == workload)

    async def come_up(self, workload: str, **more: Any) -> None:
        """All nodes say that their SSH server answers."""
        gang = self.gang(workload)
        for rank in range(gang.tasks):
            self.engine.report(gang.attempt, report(rank, **more), rank)
        await self.look()

    async def go_down(self, workload: str) -> None:
        """What was told to end has ended."""
        self.engine.end(self.gang(workload).attempt, Outcome.CANCELLED, exit_code=0, message="told to end")
        await self.look()


def report(rank: int = 0, **more: Any) -> Mapping[str, Any]:
    ssh = {"host": "127.0.0.1", "port": 22000 + rank, "user": "root", "host_key": "ssh-ed25519 AAAA"}
    told = {"driver": "netns", "boundary": False, "ssh": ssh, "address": f"10.201.0.{rank + 2}"}
    return {**told, "egress_bytes": 0, "ready": True, **more}
