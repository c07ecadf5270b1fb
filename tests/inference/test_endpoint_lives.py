"""Endpoints as they are drained, removed, parked, replaced and watched."""

import asyncio
from dataclasses import replace

from skerry.compute.model import ReasonCode, WorkloadStatus
from skerry.inference.model import EndpointStatus, NewEndpoint
from skerry.runtime.state import Reason
from tests.inference.scene import dedicated

# Draining


async def test_a_drain_cuts_no_request(cloud, scene, operator):
    await cloud.ready()
    cloud.prober.in_flight = 1
    drained = await operator("POST", "/endpoints/near/drain")
    assert drained["actions"]["resume"] == {"available": True, "why_not": None}
    assert (await cloud.routes())["near"].replicas == (), "gateways send nothing more at once"
    assert not (await cloud.routes())["near"].wakes
    for _ in range(20):
        scene.clock.advance(seconds=2)
        await cloud.reconcile(hint=False)
    assert scene.serving() == 1, "a request still runs"
    cloud.prober.in_flight = 0
    scene.clock.advance(seconds=2)
    await cloud.reconcile(hint=False)
    assert scene.serving() == 0
    scene.compute.run_all()
    await cloud.reconcile()
    near = await operator("GET", "/endpoints/near")
    assert (near["status"], near["status_reason"]["code"]) == ("stopped", "drained")
    await operator("POST", "/endpoints/near/drain", 409)
    await operator("POST", "/endpoints/near/resume")
    await scene.settle()
    assert (await operator("GET", "/endpoints/near"))["status"] == "ready"


async def test_a_drained_upstream_comes_back(cloud, scene, operator):
    await cloud.add_upstream()
    assert (await operator("GET", "/endpoints/far"))["actions"]["scale"]["available"] is False
    await operator("POST", "/endpoints/far/drain")
    await cloud.reconcile(2)
    assert (await operator("GET", "/endpoints/far"))["status"] == "stopped"
    await operator("POST", "/endpoints/far/resume")
    await cloud.reconcile(3)
    assert (await operator("GET", "/endpoints/far"))["status"] == "ready"
    assert len((await cloud.routes())["far"].replicas) == 1


async def test_removing_a_dedicated_endpoint_frees_its_name(cloud, scene, customer):
    await cloud.ready()
    await dedicated(customer, name="mine")
    await scene.settle()
    await customer("DELETE", "/endpoints/mine")
    await scene.settle()
    await customer("GET", "/endpoints/mine", 404)
    assert scene.serving() == 1, "that of the shared endpoint"
    await dedicated(customer, name="mine")


async def test_a_shared_endpoint_goes_with_its_model_only(cloud, operator):
    await cloud.ready()
    refused = await operator("DELETE", "/endpoints/near", 409)
    assert "comes and goes with its model" in refused["detail"]


async def test_dedicated_endpoints_of_a_removed_model_stop_with_the_reason(cloud, scene, customer):
    await cloud.ready()
    await dedicated(customer, name="mine")
    await scene.settle()
    await cloud.remove("near")
    assert (await cloud.routes())["mine"].replicas == ()
    for _ in range(5):
        scene.clock.advance(seconds=5)
        await scene.settle(1)
    mine = await customer("GET", "/endpoints/mine")
    assert (mine["status"], mine["status_reason"]["code"]) == ("stopped", "model_removed")
    refused = await customer("POST", "/endpoints/mine/resume", 409)
    assert "removed from the catalogue" in refused["detail"]
    await customer("DELETE", "/endpoints/mine")


# Crash loops


async def test_a_crash_loop_is_parked_with_the_end_of_its_log_until_it_is_resumed(cloud, scene, operator, customer):
    await cloud.add_local()
    await cloud.reconcile()
    for _ in range(5):
        assert (await operator("GET", "/endpoints/near"))["parked_at"] is None
        scene.compute.starts(port=None)
        scene.compute.dies("exit code 1; last lines of its log:\ncannot start: no memory")
        await cloud.reconcile()
    near = await operator("GET", "/endpoints/near")
    assert (near["status"], near["status_reason"]["code"]) == ("failed", "parked")
    assert "cannot start: no memory" in near["status_reason"]["message"]
    assert "resume" in near["status_reason"]["message"]
    assert near["actions"]["resume"]["available"] is True
    assert "no memory" not in (await customer("GET", "/endpoints/near"))["status_reason"]["message"]
    assert "resume" in (await customer("GET", "/endpoints/near"))["status_reason"]["message"]
    assert scene.serving() == 0
    assert not (await cloud.routes())["near"].wakes, "whoever calls it now is told at once"
    scene.compute.run_all()
    for _ in range(10):
        scene.clock.advance(minutes=10)
        await scene.report((await operator("GET", "/endpoints/near"))["id"], waiting=1)
        await cloud.reconcile(hint=False)
    assert scene.compute.live == [], "it is not tried any more"

    await operator("POST", "/endpoints/near/resume")
    await scene.settle()
    assert (await operator("GET", "/endpoints/near"))["status"] == "ready"


async def test_a_replica_that_is_killed_again_and_again_but_works_is_not_parked(cloud, scene, operator):
    await cloud.ready()
    for kill in range(8):
        scene.compute.dies("signal 9", failures=kill + 1)
        await cloud.reconcile()
        assert (await cloud.routes())["near"].wakes, "requests wait for the next start"
        scene.compute.starts(port=4100 + kill)
        await cloud.reconcile()
        assert (await operator("GET", "/endpoints/near"))["status"] == "ready"


async def test_a_replica_that_no_node_can_take_says_why(cloud, scene, customer):
    await cloud.ready()
    await dedicated(customer, name="mine")
    await cloud.reconcile()
    words = "local-1: 0 of its 2 accelerators are free, 1 are wanted."
    scene.compute._put(scene.compute.live[-1].id, reason=Reason(ReasonCode.NO_NODE, words))
    await cloud.reconcile()
    mine = await customer("GET", "/endpoints/mine")
    assert mine["status_reason"] == {"code": "no_capacity", "message": words}


# Rollouts


async def test_a_rollout_has_the_new_one_ready_before_the_old_one_goes(cloud, scene, operator):
    await cloud.ready()
    await operator("PATCH", "/endpoints/near", min_replicas=3)
    await scene.settle()
    before = {replica["id"] for replica in (await operator("GET", "/endpoints/near"))["replicas"]}
    await operator("POST", "/endpoints/near/rollout")
    await operator("POST", "/endpoints/near/rollout", 409)
    for _ in range(20):
        await cloud.reconcile()
        assert len((await cloud.routes())["near"].replicas) >= 3
        starting = [w for w in scene.compute.live if w.status is WorkloadStatus.PENDING]
        assert len(starting) <= 1, "one at a time"
        scene.compute.run_all()
        scene.clock.advance(seconds=3)
    near = await operator("GET", "/endpoints/near")
    assert before.isdisjoint(replica["id"] for replica in near["replicas"])
    assert (near["ready_replicas"], near["version"], near["status_reason"]["code"]) == (3, 2, "up")


async def test_a_rollout_to_another_model_switches_when_all_are_ready(cloud, scene, operator):
    await cloud.ready()
    await cloud.add_local("newer")
    await scene.settle()
    await operator("PATCH", "/endpoints/near", min_replicas=2)
    await scene.settle()
    old = {replica.id for replica in (await cloud.routes())["near"].replicas}
    under_way = await operator("POST", "/endpoints/near/rollout", model="newer")
    assert (under_way["model"], under_way["next_model"]) == ("near", "newer")
    for _ in range(12):
        await cloud.reconcile()
        route = (await cloud.routes())["near"]
        used = {replica.id for replica in route.replicas}
        assert len(used) == 2
        assert (used == old) == (route.model_name == "near"), "never one model's replicas at the other's price"
        scene.compute.run_all()
        scene.clock.advance(seconds=3)
    near = await operator("GET", "/endpoints/near")
    assert (near["model"], near["next_model"], near["ready_replicas"]) == ("newer", None, 2)


async def test_a_rollout_that_crashes_is_called_off(cloud, scene, operator):
    await cloud.ready()
    good = (await cloud.routes())["near"].replicas
    await operator("POST", "/endpoints/near/rollout")
    await cloud.reconcile()
    for _ in range(5):
        workload = next(w for w in scene.compute.live if w.attempt is None or w.attempt.ended_at)
        scene.compute.starts(None, workload=workload)
        scene.compute.dies("exit code 1", workload=scene.compute.workloads[workload.id])
        await cloud.reconcile()
    scene.compute.run_all()
    await cloud.reconcile()
    near = await operator("GET", "/endpoints/near")
    assert (near["status"], near["version"]) == ("ready", 1)
    assert (await cloud.routes())["near"].replicas == good
    assert "endpoint.rollout_failed" in [e["type"] for e in (await operator("GET", "/endpoints/near/events"))["data"]]


# Watching


async def test_logs_are_the_operators_and_those_of_a_dedicated_endpoint_its_projects(cloud, scene, operator, customer):
    await cloud.ready()
    shared = scene.compute.only.id
    scene.compute.written[shared] = b"one\ntwo\nthree\n"
    assert await operator.text("/endpoints/near/logs?tail=2") == "two\nthree\n"
    assert await operator.text("/endpoints/near/logs?offset=4&limit=3") == "two"
    assert await operator.text("/endpoints/near/logs?tail=1&follow=true") == "three\n"
    await customer("GET", "/endpoints/near/logs", 403)
    await customer("GET", "/endpoints/near/load", 403)
    await customer("GET", "/endpoints/near/events", 403)
    assert (await customer("GET", "/endpoints/near"))["actions"]["logs"]["available"] is False

    await dedicated(customer, name="mine")
    await cloud.reconcile()
    scene.compute.written[scene.compute.live[-1].id] = b"mine\n"
    assert await customer.text("/endpoints/mine/logs") == "mine\n"
    assert (await customer("GET", "/endpoints/mine/load"))["name"] == "mine"
    await customer("GET", "/endpoints/mine/logs?replica=rep_other", 404)


async def test_an_idle_replica_completes_something_every_minute(cloud, scene):
    await cloud.ready()
    for _ in range(13):
        scene.clock.advance(seconds=10)
        await cloud.reconcile(hint=False)
    asked = [kind for kind, *_ in cloud.prober.asked]
    assert asked.count("complete") == 3
    assert asked.count("healthy") == 11


async def test_a_replica_at_work_is_not_given_more_by_us(cloud, scene):
    await cloud.ready()
    cloud.prober.in_flight = 2
    for _ in range(13):
        scene.clock.advance(seconds=10)
        await cloud.reconcile(hint=False)
    assert [kind for kind, *_ in cloud.prober.asked].count("complete") == 1


async def test_a_wish_during_a_look_is_not_written_over(cloud, scene, people, endpoints):
    await cloud.ready()
    scene.clock.advance(seconds=10)
    (row,) = await cloud.reconciler.claim(10)
    change = await cloud.reconciler.step(row)
    await endpoints.scale(people.operator, "near", {"min_replicas": 2})
    await cloud.reconciler.apply(row, change)
    await cloud.reconcile(hint=False)
    assert (await cloud.endpoint()).endpoint.wanted == 2


async def test_a_controller_that_dies_between_looking_and_writing_changes_nothing(cloud, scene, operator):
    await cloud.ready()
    id = (await operator("PATCH", "/endpoints/near", max_replicas=3))["id"]
    await scene.report(id, in_flight=4, waiting=4)
    (row,) = await cloud.reconciler.claim(10)
    await cloud.reconciler.step(row)
    scene.clock.advance(seconds=100)
    await scene.report(id, in_flight=4, waiting=4)
    await scene.settle()
    assert (await operator("GET", "/endpoints/near"))["ready_replicas"] == 2


async def test_two_gateways_may_report_at_once(cloud, scene, operator):
    await cloud.ready()
    id = (await cloud.endpoint()).endpoint.id
    await asyncio.gather(*(scene.report(id, gateway=f"gw-{n % 2}", in_flight=1) for n in range(8)))
    assert (await operator("GET", "/endpoints/near/load"))["in_flight"] == 2


async def test_what_a_key_may_not_is_said_in_actions(cloud, customer, people, endpoints):
    await cloud.ready()
    made = await dedicated(customer, name="mine")
    assert made["actions"]["drain"]["available"] is True
    reader = replace(people.customer, scopes=frozenset({"read"}))
    view = await cloud.inference.get_endpoint(reader, "mine")
    assert endpoints.why_not(reader, view)["drain"] == "The key has not the scope write."
    assert view.endpoint.status is EndpointStatus.STARTING
    assert NewEndpoint("near", "dedicated").min_replicas is None


async def test_no_more_requests_than_slots_go_to_an_engine_that_keeps_prompts_by_slot(cloud, scene, customer):
    """Two projects' requests behind each other on one slot could arrive in the other order (I12)."""
    await cloud.ready()
    await dedicated(customer, name="mine", target_concurrency=1000)
    await scene.settle()
    assert (await cloud.routes())["mine"].replicas
    assert (await cloud.routes())["mine"].per_replica is None
