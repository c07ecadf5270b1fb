"""The health of nodes over HTTP, with the client that the command line has."""

from collections.abc import AsyncIterator

import httpx
import pytest

from skerry.client import AsyncSkerry, Conflict, Forbidden, Invalid, NotFound, Retries
from skerry.compute.health import rules
from skerry.fleet.model import Accelerator, Machine
from tests.server.conftest import Cloud, cloud, services, settings

__all__ = ["cloud", "services", "settings"]

MACHINE = Machine("here", 4, 1 << 34, tuple(Accelerator(index, "H100", 80 << 30) for index in range(4)))


@pytest.fixture
async def operator(cloud: Cloud) -> AsyncIterator[AsyncSkerry]:
    async with cloud.services.db.transaction() as tx:
        await cloud.services.fleet.discover_local(tx, MACHINE, 2)
    transport = httpx.ASGITransport(cloud.app, raise_app_exceptions=False)
    async with AsyncSkerry("http://cloud", cloud.operator_key, transport=transport, retries=Retries(tries=1)) as client:
        yield client


async def break_gpu(cloud: Cloud) -> None:
    health = cloud.services.node_health
    await health.notice(await health.fleet.node("local-1"), [rules.xid(79, "gpu0")], again=True)


async def test_a_case_is_seen_and_decided(cloud: Cloud, operator: AsyncSkerry) -> None:
    assert [case async for case in operator.health.remediations(open=True)] == []
    await break_gpu(cloud)
    (case,) = [case async for case in operator.health.remediations(open=True)]
    assert (case.node, case.status, case.action) == ("local-1", "proposed", "reboot")
    assert case.actions["approve"] == {"available": True, "why_not": ""}
    (signal,) = [signal async for signal in operator.health.signals(node="local-1")]
    assert (signal.kind, signal.severity, signal.count) == ("xid", "failing", 1)

    approved = await operator.health.decide(case.id, "approve")
    assert approved.status == "approved"
    assert approved.actions["approve"]["available"] is False
    assert (await operator.health.decide(case.id, "approve")).status == "approved", "said twice is said once"
    assert (await operator.health.decide(case.id, "mended")).status == "checking"
    with pytest.raises(Conflict, match="checking"):
        await operator.health.decide(case.id, "reject")
    events = [event.type async for event in operator.events.of("health/remediations", case.id)]
    assert events == ["remediation.approved", "remediation.checking"]


async def test_a_check_is_asked_for_and_is_a_workload(cloud: Cloud, operator: AsyncSkerry) -> None:
    run = await operator.health.check("local-1", check="bandwidth", peer="local-2")
    assert (run.node, run.peer, run.workload_id[:3]) == ("local-1", "local-2", "wl_")
    with pytest.raises(Conflict):
        await operator.health.check("local-1")


@pytest.mark.parametrize(
    ("node", "wanted", "error"),
    [
        ("nowhere", {}, NotFound),
        ("local-1", {"peer": "local-2"}, Invalid),
        ("local-1", {"check": "bandwidth"}, Invalid),
        ("local-1", {"check": "bandwidth", "peer": "local-1"}, Invalid),
        ("local-1", {"check": "magic"}, Invalid),
    ],
)
async def test_a_check_that_cannot_be_is_refused(
    operator: AsyncSkerry, node: str, wanted: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await operator.health.check(node, **wanted)


async def test_it_is_the_operators_alone(cloud: Cloud, operator: AsyncSkerry) -> None:
    transport = httpx.ASGITransport(cloud.app, raise_app_exceptions=False)
    async with AsyncSkerry("http://cloud", cloud.project_key, transport=transport, retries=Retries(tries=1)) as client:
        with pytest.raises(Forbidden):
            await client.health.decide("rem_1", "approve")
        with pytest.raises(Forbidden):
            await client.health.check("local-1")
    with pytest.raises(NotFound):
        await operator.health.decide("rem_1", "approve")
