"""Endpoints from their model's coming to its going, with a compute that does what the test says."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from skerry.artifacts.model import ModelFacts
from skerry.compute.model import Desired, Drop, WorkloadKind
from skerry.inference.errors import ModelTooLarge
from skerry.inference.model import EndpointStatus, ReplicaStatus
from skerry.kernel.paging import PageRequest


async def test_a_new_model_gets_a_replica_that_is_tried_before_it_is_used(cloud):
    model = await cloud.add_local()
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.STARTING
    assert (await cloud.routes())["near"].replicas == ()

    await cloud.reconcile()
    spec = cloud.compute.only.spec
    assert spec.kind is WorkloadKind.SERVICE
    assert spec.resource == (await cloud.endpoint()).endpoint.id
    assert spec.accelerators == 0
    assert spec.drop is Drop.BY_PROGRAM
    assert spec.model == "near"
    key = spec.files["key"]
    assert key not in repr(spec.command) + repr(dict(spec.env))
    assert not cloud.prober.asked

    attempt = cloud.compute.starts(port=4001, slots=3)
    await cloud.reconcile()
    assert cloud.prober.asked == [("complete", "http://127.0.0.1:4001", key, "near")]
    view = await cloud.endpoint()
    assert view.endpoint.status is EndpointStatus.READY
    assert view.replicas[0].status is ReplicaStatus.READY
    assert view.replicas[0].node == "local-1"
    assert cloud.compute.marked == [attempt]
    route = (await cloud.routes())["near"]
    assert (route.model, route.context_length, route.project) == (model.id, 2048, None)
    assert (route.charge_by, route.capacity_class, route.site) == ("tokens", "on_demand", "local")
    assert [(r.base_url, r.key, r.slots) for r in route.replicas] == [("http://127.0.0.1:4001/v1", key, 3)]


async def test_the_replicas_key_is_not_in_the_database(cloud, database):
    await cloud.ready()
    key = cloud.compute.only.spec.files["key"]
    async with database.reading() as tx:
        rows = [*await tx.execute(text("SELECT * FROM replicas")), *await tx.execute(text("SELECT data FROM events"))]
    assert key not in repr(rows)


async def test_an_endpoint_waits_until_the_replica_completes_something(cloud):
    await cloud.add_local()
    await cloud.reconcile()
    cloud.compute.starts()
    cloud.prober.refusal = "it answered 503"
    await cloud.reconcile()
    view = await cloud.endpoint()
    assert view.endpoint.status is EndpointStatus.STARTING
    assert "it answered 503" in view.replicas[0].reason.message
    assert not cloud.compute.marked
    cloud.prober.refusal = None
    cloud.clock.advance(seconds=1)
    await cloud.reconcile(hint=False)
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.READY


async def test_a_dead_process_is_routed_around_and_comes_back_at_its_new_address(cloud):
    await cloud.ready()
    cloud.compute.dies("signal 9")
    await cloud.reconcile()
    view = await cloud.endpoint()
    assert view.endpoint.status is EndpointStatus.STARTING
    assert "signal 9" in view.endpoint.reason.message
    assert (await cloud.routes())["near"].replicas == ()
    attempt = cloud.compute.starts(port=4002)
    await cloud.reconcile()
    assert [r.base_url for r in (await cloud.routes())["near"].replicas] == ["http://127.0.0.1:4002/v1"]
    assert cloud.compute.marked[-1] == attempt


async def test_a_process_replaced_between_two_looks_is_found_at_its_new_address(cloud):
    await cloud.ready()
    cloud.compute.dies()
    cloud.compute.starts(port=4002)
    await cloud.reconcile()
    assert [r.base_url for r in (await cloud.routes())["near"].replicas] == ["http://127.0.0.1:4002/v1"]
    cloud.compute.dies()
    cloud.compute.starts(port=4003)
    cloud.prober.refusal = "not yet"
    await cloud.reconcile()
    assert (await cloud.routes())["near"].replicas == ()


async def test_a_crash_loop_fails_the_endpoint_with_the_reason(cloud):
    await cloud.add_local()
    await cloud.reconcile()
    for _ in range(3):
        assert (await cloud.endpoint()).endpoint.status is EndpointStatus.STARTING
        cloud.compute.starts(port=None)
        cloud.compute.dies("exit code 1; last lines of its log:\ncannot start: no memory")
        await cloud.reconcile()
    view = await cloud.endpoint()
    assert view.endpoint.status is EndpointStatus.FAILED
    assert view.endpoint.reason.code == "crashing"
    assert "no memory" in view.endpoint.reason.message
    cloud.compute.starts()
    await cloud.reconcile()
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.READY


async def test_a_replica_that_hangs_is_replaced(cloud):
    await cloud.ready()
    first = cloud.compute.only
    cloud.prober.refusal = "it did not answer within 10 s"
    cloud.clock.advance(seconds=10)
    await cloud.reconcile(hint=False)
    assert len((await cloud.routes())["near"].replicas) == 1, "one miss is no failure"
    for _ in range(2):
        cloud.clock.advance(seconds=10)
        await cloud.reconcile(hint=False)
    assert (await cloud.routes())["near"].replicas == ()
    assert cloud.compute.workloads[first.id].desired is Desired.STOP
    assert (await cloud.endpoint()).replicas[0].reason.code == "not_answering"
    cloud.compute.ends()
    cloud.prober.refusal = None
    cloud.clock.advance(seconds=1)
    await cloud.reconcile()
    assert cloud.compute.only.id != first.id
    cloud.compute.starts(port=4005)
    await cloud.reconcile()
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.READY


async def test_a_workload_that_ended_is_replaced_after_a_pause(cloud):
    await cloud.ready()
    cloud.compute.ends()
    await cloud.reconcile()
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.STARTING
    cloud.clock.advance(seconds=1)
    await cloud.reconcile(hint=False)
    assert cloud.compute.only


async def test_health_is_asked_every_ten_seconds(cloud):
    await cloud.ready()
    asked = len(cloud.prober.asked)
    await cloud.reconcile(3)
    assert len(cloud.prober.asked) == asked
    cloud.clock.advance(seconds=10)
    await cloud.reconcile(hint=False)
    assert cloud.prober.asked[-1][0] == "healthy"


async def test_removing_the_model_stops_its_replica_and_frees_the_name(cloud):
    await cloud.ready()
    old = await cloud.endpoint()
    await cloud.remove("near")
    assert "near" not in await cloud.routes(), "nothing more is sent there at once"
    await cloud.reconcile()
    assert cloud.compute.only.desired is Desired.STOP
    view = await cloud.endpoint(old.endpoint.id)
    assert view.endpoint.status is EndpointStatus.READY, "what runs is finished first"
    cloud.compute.ends()
    await cloud.reconcile()
    view = await cloud.endpoint(old.endpoint.id)
    assert view.endpoint.status is EndpointStatus.STOPPED
    assert view.replicas[0].status is ReplicaStatus.STOPPED
    cloud.clock.advance(hours=1)
    assert not await cloud.reconciler.claim(10), "nothing is left to do"

    await cloud.add_local()
    await cloud.reconcile()
    assert (await cloud.endpoint()).endpoint.id != old.endpoint.id


async def test_removing_before_the_first_replica_leaves_nothing(cloud):
    await cloud.add_local()
    id = (await cloud.endpoint()).endpoint.id
    await cloud.remove("near")
    await cloud.reconcile()
    assert (await cloud.endpoint(id)).endpoint.status is EndpointStatus.STOPPED
    assert not cloud.compute.workloads


async def test_an_upstream_is_ready_at_once(cloud):
    await cloud.add_upstream(upstream_key="sk-up", upstream_model="gpt")
    view = await cloud.endpoint("far")
    assert view.endpoint.status is EndpointStatus.READY
    route = (await cloud.routes())["far"]
    assert route.upstream_model == "gpt"
    assert [(r.base_url, r.key) for r in route.replicas] == [("http://far.example/v1", "sk-up")]
    assert not await cloud.reconciler.claim(10), "nothing to do for us"
    await cloud.remove("far")
    await cloud.reconcile()
    assert (await cloud.endpoint(view.endpoint.id)).endpoint.status is EndpointStatus.STOPPED
    assert not cloud.compute.workloads


async def test_two_controllers_make_one_replica(cloud):
    await cloud.add_local()
    looks = await asyncio.gather(*(cloud.reconcile() for _ in range(4)))
    assert sum(looks) == 1
    assert len(cloud.compute.workloads) == 1


async def test_who_lost_the_lease_writes_nothing(cloud):
    await cloud.add_local()
    (row,) = await cloud.reconciler.claim(10)
    change = await cloud.reconciler.step(row)
    cloud.clock.advance(minutes=5)
    (again,) = await cloud.reconciler.claim(10)
    assert not await cloud.reconciler.apply(row, change)
    assert not cloud.compute.workloads
    assert await cloud.reconciler.apply(again, await cloud.reconciler.step(again))


async def test_a_hint_during_a_look_is_not_lost(cloud):
    await cloud.add_local()
    await cloud.reconcile()
    cloud.clock.advance(seconds=10)
    (row,) = await cloud.reconciler.claim(10)
    change = await cloud.reconciler.step(row)
    cloud.compute.starts()
    await cloud.hint()
    await cloud.reconciler.apply(row, change)
    await cloud.reconcile(hint=False)
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.READY


async def test_an_address_that_is_none_is_not_used(cloud):
    await cloud.add_local()
    await cloud.reconcile()
    cloud.compute.starts()
    workload = cloud.compute.only
    for report in ({"address": "file:///etc/passwd"}, {"address": "http://u@h:1"}, {"address": 7}, {}):
        cloud.compute._put(workload.id, attempt=replace(workload.attempt, report=report))
        await cloud.reconcile()
        assert not cloud.prober.asked
    assert (await cloud.endpoint()).endpoint.status is EndpointStatus.STARTING


async def test_what_does_not_fit_a_replica_is_refused_when_it_is_added(cloud, monkeypatch):
    model = await cloud.add_local()
    huge = replace(model, context_length=10_000_000, facts=ModelFacts(kv_bytes_per_token=100_000))
    with pytest.raises(ModelTooLarge) as caught:
        async with cloud.inference.db.transaction() as tx:
            await cloud.inference.model_added(tx, replace(huge, name="huge"))
    assert "SKERRY_REPLICA_MEMORY_BYTES" in caught.value.suggestion


async def test_the_timeline_tells_it_all(cloud):
    await cloud.ready()
    cloud.compute.dies()
    await cloud.reconcile()
    found = await cloud.inference.endpoint_events(cloud.people.operator, "near", PageRequest())
    assert [event.type for event in found.data] == [
        "endpoint.created",
        "endpoint.ready",
        "endpoint.cold_start",
        "endpoint.starting",
    ]
