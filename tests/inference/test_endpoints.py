"""Endpoints as people make, scale, drain, replace and watch them, down to the workloads that run."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from skerry.compute.model import Desired, ReasonCode, WorkloadStatus
from skerry.identity.access import Access
from skerry.inference.model import Demand, EndpointStatus, NewEndpoint
from skerry.inference.routes import router
from skerry.kernel.errors import SkerryError
from skerry.runtime.state import Reason

GATEWAY = "gw-1"


@pytest.fixture
async def http(inference, endpoints, identity):
    app = FastAPI()
    app.include_router(router(inference, endpoints, Access(identity)), prefix="/api/v1")

    @app.exception_handler(SkerryError)
    async def answer(request: Request, error: SkerryError) -> JSONResponse:
        return JSONResponse({"code": error.code, "detail": error.detail}, error.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client:
        yield client


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


@pytest.fixture
def operator(http, people):
    return Desk(http, people.operator_secret)


@pytest.fixture
def customer(http, people):
    return Desk(http, people.customer_secret)


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


@pytest.fixture
def scene(cloud) -> Scene:
    return Scene(cloud)


async def dedicated(customer: Desk, **more: object) -> dict:
    return await customer("POST", "/endpoints", 201, model="near", kind="dedicated", **more)


# Making


async def test_a_dedicated_endpoint_is_its_projects_alone_and_paid_by_time(cloud, scene, customer, people):
    await cloud.ready()
    made = await dedicated(customer, name="mine", min_replicas=1)
    assert (made["kind"], made["status"], made["model"], made["charge_by"]) == ("dedicated", "starting", "near", "time")
    assert (made["min_replicas"], made["max_replicas"], made["accelerators"], made["sku"]) == (1, 1, 1, "local")
    await scene.settle()
    spec = scene.compute.live[-1].spec
    assert (spec.accelerators, spec.charge_by, spec.sku, spec.model) == (1, "time", "local", "near")
    assert scene.compute.live[-1].project == people.customer.project_id
    route = (await cloud.routes())["mine"]
    assert (route.project, route.charge_by, len(route.replicas)) == (people.customer.project_id, "time", 1)
    assert (await customer("GET", "/endpoints/mine"))["status"] == "ready"
    callable = [model.name for model in await cloud.inference.list_models(people.customer)]
    assert callable == ["mine", "near"]
    stranger = replace(people.customer, project_id="proj_other")
    assert [model.name for model in await cloud.inference.list_models(stranger)] == ["near"]


async def test_a_dry_run_gives_the_price_and_changes_nothing(cloud, customer):
    await cloud.ready()
    estimate = await customer(
        "POST",
        "/endpoints?dry_run=true",
        model="near",
        kind="dedicated",
        min_replicas=1,
        max_replicas=3,
        accelerators=2,
    )
    assert estimate["replica_hour"] == {"amount": "0.072", "currency": "EUR"}
    assert (estimate["min_hour"]["amount"], estimate["max_hour"]["amount"]) == ("0.072", "0.216")
    assert (estimate["charge_by"], estimate["sku"]) == ("time", "local")
    assert [one["name"] for one in (await customer("GET", "/endpoints"))["data"]] == ["near"]


async def test_what_could_not_be_paid_for_an_hour_is_not_started(cloud, customer, endpoints):
    await cloud.ready()
    hours = {"min_replicas": 64, "max_replicas": 64, "accelerators": 2}
    made = await dedicated(customer, name="one", **hours)
    assert made["name"] == "one"
    endpoints.estimates.billing.prices.rate = lambda pieces, prices, contract=None: [Expensive()]
    refused = await customer("POST", "/endpoints", 402, model="near", kind="dedicated", name="two", **hours)
    assert refused["code"] == "budget_exhausted"
    assert "credit_limit" in refused["detail"]


class Expensive:
    """A charge that one hour of 64 replicas would not make, but of which the credit has less left."""

    contracted_cost = Decimal("1.5")


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, 422, "out_of_range"),
        ({"max_replicas": 0}, 422, "out_of_range"),
        ({"accelerators": 0}, 422, "out_of_range"),
        ({"accelerators": 3}, 422, "too_many_accelerators"),
        ({"sku": "h100.8x"}, 422, "unknown_sku"),
        ({"capacity_class": "reserved"}, 422, "bad_capacity_class"),
        ({"name": "a/b"}, 422, "bad_endpoint_name"),
        ({"name": "near"}, 409, "endpoint_name_taken"),
        ({"model": "none"}, 404, "unknown_model"),
        ({"model": "far"}, 422, "upstream_model"),
        ({"kind": "shared"}, 403, "operator_required"),
    ],
)
async def test_refusals_name_what_is_wrong(cloud, customer, wrong, status, code):
    await cloud.ready()
    await cloud.add_upstream()
    body = {"model": "near", "kind": "dedicated", **wrong}
    assert (await customer("POST", "/endpoints", status, **body))["code"] == code


async def test_the_operator_makes_a_second_shared_endpoint(cloud, scene, operator, customer):
    await cloud.ready()
    made = await operator("POST", "/endpoints", 201, model="near", kind="shared", name="near-fast", min_replicas=2)
    assert (made["charge_by"], made["accelerators"], made["max_replicas"]) == ("tokens", 0, 2)
    await scene.settle()
    assert (await customer("GET", "/endpoints/near-fast"))["ready_replicas"] == 2
    assert (await cloud.routes())["near-fast"].project is None
    refused = await customer("POST", "/endpoints/near-fast/drain", 403)
    assert refused["code"] == "operator_required"


# Scaling


async def test_demand_brings_replicas_and_quiet_takes_them_away(cloud, scene, operator):
    await cloud.ready()
    changed = await operator("PATCH", "/endpoints/near", max_replicas=4)
    id = changed["id"]
    await scene.report(id, in_flight=4, waiting=6)
    await scene.settle()
    near = await operator("GET", "/endpoints/near")
    assert (near["wanted_replicas"], near["ready_replicas"], near["status"]) == (3, 3, "ready")
    await scene.report(id, in_flight=12, waiting=1)
    await scene.settle()
    assert (await operator("GET", "/endpoints/near"))["ready_replicas"] == 4
    await scene.pass_time(200, id, in_flight=1)
    near = await operator("GET", "/endpoints/near")
    assert (near["wanted_replicas"], scene.serving()) == (1, 1)
    told = [event["data"] for event in (await operator("GET", "/endpoints/near/events?limit=500"))["data"]
            if event["type"] == "endpoint.scaled"]  # fmt: skip
    assert [(one["before"], one["after"], one["why"]) for one in told] == [
        (1, 3, "demand"), (3, 4, "demand"), (4, 2, "quiet"), (2, 1, "quiet"),
    ]  # fmt: skip


async def test_to_zero_after_idle_and_back_when_a_request_waits(cloud, scene, operator):
    await cloud.ready()
    id = (await operator("PATCH", "/endpoints/near", min_replicas=0, idle_timeout_seconds=30))["id"]
    await scene.pass_time(50, id)
    near = await operator("GET", "/endpoints/near")
    assert (near["status"], near["status_reason"]["code"]) == ("stopped", "scaled_to_zero")
    assert scene.compute.live == []
    route = (await cloud.routes())["near"]
    assert (route.replicas, route.wakes) == ((), True)
    assert await cloud.inference.usable_endpoints() == 1, "the next request is answered"

    await scene.report(id, waiting=1)
    assert await cloud.reconcile(hint=False) == 1, "the report itself wakes the reconciler"
    near = await operator("GET", "/endpoints/near")
    assert (near["status"], near["wanted_replicas"]) == ("starting", 1)
    scene.clock.advance(seconds=1)
    scene.compute.run_all()
    await cloud.reconcile()
    assert len((await cloud.routes())["near"].replicas) == 1
    load = await operator("GET", "/endpoints/near/load")
    assert load["cold_starts"][0]["cold_start_ms"] == 1000
    assert (load["waiting"], load["gateways"]) == (1, 1)


async def test_nothing_is_taken_away_while_no_gateway_says_anything(cloud, scene, operator):
    await cloud.ready()
    await operator("PATCH", "/endpoints/near", min_replicas=0, idle_timeout_seconds=30)
    for _ in range(30):
        scene.clock.advance(seconds=10)
        await cloud.reconcile(hint=False)
    assert scene.serving() == 1


async def test_a_gateway_that_vanished_counts_no_more(cloud, scene, operator):
    await cloud.ready()
    id = (await operator("PATCH", "/endpoints/near", max_replicas=4))["id"]
    await scene.report(id, gateway="gw-dead", in_flight=8)
    await scene.report(id, in_flight=1)
    load = await operator("GET", "/endpoints/near/load")
    assert (load["in_flight"], load["gateways"]) == (9, 2)
    await scene.pass_time(16, id, in_flight=1)
    load = await operator("GET", "/endpoints/near/load")
    assert (load["in_flight"], load["gateways"]) == (1, 1)
    async with cloud.inference.db.reading() as tx:
        assert await cloud.inference.gateways(tx) == 1


async def test_a_replica_on_its_way_out_comes_back_when_it_is_needed(cloud, scene, operator):
    await cloud.ready()
    id = (await operator("PATCH", "/endpoints/near", min_replicas=2))["id"]
    await scene.settle()
    await operator("PATCH", "/endpoints/near", min_replicas=1, max_replicas=1)
    await cloud.reconcile()
    assert len((await cloud.routes())["near"].replicas) == 1
    await operator("PATCH", "/endpoints/near", min_replicas=2, max_replicas=2)
    await cloud.reconcile()
    assert len((await cloud.routes())["near"].replicas) == 2
    assert len(scene.compute.workloads) == 2, "no new one was needed"
    await scene.report(id)


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
