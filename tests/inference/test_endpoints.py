"""Endpoints as people make and scale them, down to the workloads that run."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.inference.scene import dedicated

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
