"""People at their desks, and a cloud whose gateway says what a test wants it to have."""

import httpx

from skerry.compute.model import Desired
from skerry.inference.model import Demand

GATEWAY = "gw-1"


class Desk:
    """Somebody with a key."""

    def __init__(self, http: httpx.AsyncClient, secret: str) -> None:
        self.http, self.headers = http, {"authorization": f"Bearer {secret}"}

    async def __call__(self, method: str, path: str, status: int = 200, **body: object) -> dict:
        answer = await self.http.request(method, path, headers=self.headers, json=body or None)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json()

    async def text(self, path: str) -> str:
        answer = await self.http.get(path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.text


class Scene:
    """A cloud whose gateway says what the test wants it to have."""

    def __init__(self, cloud) -> None:
        self.cloud = cloud
        self.clock, self.compute = cloud.clock, cloud.compute

    async def report(self, endpoint: str | None = None, *, gateway: str = GATEWAY, **demand: float) -> None:
        has = {"in_flight": 0, "waiting": 0, "longest_wait_seconds": 0.0, "requests_per_minute": 0.0}
        known = {**has, "tokens_per_second": 0.0, "first_token_ms": 0.0, **demand}
        said = [Demand(endpoint=endpoint, **known)] if endpoint is not None else []
        async with self.cloud.inference.db.transaction() as tx:
            await self.cloud.inference.report_demand(tx, gateway, said)

    async def settle(self, looks: int = 4) -> None:
        """Replicas that are wanted come up, others end."""
        for _ in range(looks):
            await self.cloud.reconcile()
            self.compute.run_all()
        await self.cloud.reconcile()

    async def pass_time(self, seconds: int, endpoint: str, step: int = 2, **demand: float) -> None:
        for _ in range(0, seconds, step):
            self.clock.advance(seconds=step)
            await self.report(endpoint, **demand)
            await self.cloud.reconcile(hint=False)
            self.compute.run_all()

    def serving(self) -> int:
        return sum(w.desired is Desired.RUN for w in self.compute.live)


async def dedicated(customer: Desk, **more: object) -> dict:
    return await customer("POST", "/endpoints", 201, model="near", kind="dedicated", **more)
