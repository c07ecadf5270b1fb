"""Training jobs over HTTP."""

import pytest

from skerry.fleet.model import Accelerator, Machine
from tests.server.conftest import cloud, customer, operator, services, settings  # noqa: F401

JOBS = "/api/v1/training/jobs"
BODY = {"name": "train", "command": ["torchrun", "train.py"]}
MACHINE = Machine("here", 4, 1 << 34, tuple(Accelerator(index, "H100", 80 << 30) for index in range(4)))


@pytest.fixture(autouse=True)
async def fleet(cloud):  # noqa: F811
    async with cloud.services.db.transaction() as tx:
        await cloud.services.fleet.discover_local(tx, MACHINE, 2)


async def test_a_job_from_its_estimate_to_its_cancelling(customer):  # noqa: F811
    estimate = (await customer.post(f"{JOBS}?dry_run=true", json={**BODY, "max_duration_seconds": 3600})).json()
    assert estimate["price"] == estimate["hourly"]
    assert (await customer.get(JOBS)).json()["data"] == []

    once, again = [
        await customer.post(
            JOBS, json={**BODY, "nodes": 2, "env": {"TOKEN": "secret"}}, headers={"idempotency-key": "a"}
        )
        for _ in range(2)
    ]
    job = once.json()
    assert (once.status_code, again.json()["id"]) == (201, job["id"])
    assert "secret" not in once.text
    wanted = {"status": "queued", "nodes": 2, "launcher": "torchrun", "max_restarts": 3, "capacity_class": "on_demand"}
    assert {name: job[name] for name in wanted} == wanted
    assert job["actions"]["resume"]["why_not"]
    path = f"{JOBS}/{job['id']}"
    assert (await customer.get(path)).json()["sku"] == "local"
    assert (await customer.get(f"{path}/metrics")).json()["series"] == []
    assert (await customer.get(f"{path}/goodput")).json()["losses"] == []
    assert (await customer.get(f"{path}/logs")).text == ""
    assert (await customer.get(f"{path}/logs?rank=2")).status_code == 404
    assert (await customer.get(f"{path}/events")).json()["data"][0]["type"] == "training_job.created"
    assert (await customer.get(f"/api/v1/workloads/{job['workload_id']}")).json()["kind"] == "job"
    assert (await customer.post(f"{path}/cancel")).json()["status_reason"]["code"]
    assert (await customer.post(f"{path}/pause")).status_code == 409


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({**BODY, "sku": "x"}, "unknown_sku", "sku"),
        ({**BODY, "accelerators_per_task": 3}, "too_many_accelerators", "accelerators_per_task"),
        ({**BODY, "env": {"RANK": "1"}}, "reserved_name", "env.RANK"),
    ],
)
async def test_a_refusal_has_a_name_and_a_field(customer, body, code, path):  # noqa: F811
    answer = await customer.post(JOBS, json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["errors"][0]["path"]) == (422, code, path)


async def test_what_is_not_there_and_what_is_another_s_look_the_same(cloud, customer, operator):  # noqa: F811
    job = (await customer.post(JOBS, json=BODY)).json()["id"]
    await operator.post("/api/v1/projects", json={"name": "strange", "organization": "demo"})
    made = await operator.post("/api/v1/api-keys?project=strange", json={"name": "s", "scopes": ["read", "write"]})
    async with cloud.client(made.json()["key"]) as stranger:
        for path in (f"{JOBS}/{job}", f"{JOBS}/{job}/logs", f"{JOBS}/{job}/metrics", f"{JOBS}/{job}/goodput"):
            assert (await stranger.get(path)).status_code == 404
        for verb in ("cancel", "pause", "resume"):
            assert (await stranger.post(f"{JOBS}/{job}/{verb}")).status_code == 404
        answer = await stranger.post(JOBS, json={**BODY, "reservation_id": "res_x"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_reservation")
        # The new project is not trusted; whether it may run here is the engine's to say, which does not answer.
        assert (await stranger.post(JOBS, json=BODY)).status_code in (201, 503)


async def test_a_key_of_a_customer_reports_nothing(customer):  # noqa: F811
    answer = await customer.post("/api/v1/node/training/reports", content=b"{}")
    assert answer.status_code == 401
