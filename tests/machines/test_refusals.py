"""What cannot be is refused before anything is started, naming the field and what would do."""

import pytest
import pytest_asyncio

from skerry.compute.instances.host.spec import DriverName
from skerry.identity.model import Scope
from tests.machines.scene import KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOX = {"name": "box", "ssh_keys": [KEY], "home_bytes": 0}
NONE = {**BOX, "accelerators": 0}
RSA_1024 = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7vbqajDw4o6gJy8UtmIbkcpnkO3Kwc4qsEnSZp/TR+fQi62F79RHWmwKOtFmwteURgLbj7D/Wg"
    "uNLGOfa/vs3EpdR5s7N2UxMJHu6sWzd4k0sFbNLQ9jMBwCNFmCkYDfYAQIdDAd2jg6oRQn4BOrnsMrTGbQWBrIvH5l3TzNfRw== weak"
)


REFUSED = [
    ({"sku": "h900.8x"}, "sku", "unknown_sku"),
    ({"site": "nowhere"}, "site", "unknown_site"),
    ({"accelerators": 8}, "accelerators", "too_many_accelerators"),
    ({"accelerators": 3}, "accelerators", "no_such_size"),
    ({"ssh_keys": ["nobody"]}, "ssh_keys.0", "unknown_ssh_key"),
    ({"ssh_keys": [f'command="ls" {KEY}']}, "ssh_keys.0", "key_options"),
    ({"ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nx"]}, "ssh_keys.0", "private_key"),
    ({"ssh_keys": [KEY[:60]]}, "ssh_keys.0", "not_a_key"),
    ({"capacity_class": "reserved"}, "reservation_id", "missing"),
    ({"image": "debian"}, "image", "no_images"),
    ({"volumes": [{"volume": "none", "target": "/data"}]}, "volumes.0", "unknown_volume"),
    ({"volumes": [{"volume": "v", "target": "/etc/x"}]}, "volumes.0.target", "bad_target"),
    ({"home_bytes": 1}, "home_bytes", "out_of_range"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def customer(shared):
    async with shared.cloud.client(shared.cloud.project_key) as client:
        yield client


async def test_each_refusal_names_its_field(customer):
    for change, field, code in REFUSED:
        answer = await customer.post("/api/v1/instances", json={**BOX, **change})
        problem = answer.json()
        assert answer.status_code == 422, answer.text
        assert (problem["code"], problem["errors"][0]["path"]) == (code, field), change
    assert (await customer.get("/api/v1/instances")).json()["data"] == []
    assert (await customer.get("/api/v1/workloads")).json()["data"] == []


async def test_another_project_s_reservation_is_not_there(customer):
    answer = await customer.post("/api/v1/instances", json={**BOX, "reservation_id": "res_of_somebody"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_reservation")
    assert answer.json()["errors"][0]["path"] == "reservation_id"


async def test_an_estimate_changes_nothing(customer):
    body = {**BOX, "accelerators": 4, "max_duration_seconds": 7200, "home_bytes": 1 << 20}
    answer = await customer.post("/api/v1/instances?dry_run=true", json=body)
    told = answer.json()
    assert answer.status_code == 200 and told["available_now"]
    assert float(told["total"]["amount"]) == 2 * float(told["hourly"]["amount"]) > 0
    assert (await customer.get("/api/v1/instances")).json()["data"] == []
    assert (await customer.get("/api/v1/volumes")).json()["data"] == []


async def test_without_a_boundary_only_trusted_projects_have_machines(shared, customer):
    allowed = shared.services.machines.instances.checking.policy.options.allowed
    before, allowed[:] = list(allowed), [DriverName.NETNS]
    async with shared.cloud.client(shared.cloud.operator_key) as operator:
        await operator.post("/api/v1/projects", json={"name": "wild", "organization": "demo", "trusted": False})
        wish = {"name": "wild", "scopes": [Scope.READ, Scope.WRITE]}
        made = await operator.post("/api/v1/api-keys?project=wild", json=wish)
    async with shared.cloud.client(made.json()["key"]) as wild:
        answer = await wild.post("/api/v1/instances", json=BOX)
    trusted = await customer.post("/api/v1/instances?dry_run=true", json=BOX)
    allowed[:] = before
    assert (answer.status_code, answer.json()["code"]) == (503, "isolation_unavailable")
    assert trusted.status_code == 200


async def test_when_nothing_is_free_it_says_what_would_be(customer):
    full = {"name": "most", "ssh_keys": [KEY], "home_bytes": 0, "nodes": 3}
    assert (await customer.post("/api/v1/clusters", json=full)).status_code == 201
    answer = await customer.post("/api/v1/clusters", json={**full, "name": "more", "nodes": 2})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["nearest"]) == (507, "no_capacity", {"nodes": 1})
    assert "1 nodes would start now" in problem["suggestion"]
    too_many = await customer.post("/api/v1/clusters", json={**full, "name": "more", "nodes": 9})
    assert (too_many.status_code, too_many.json()["largest"]) == (422, 4)
    # Nothing is left of what was refused.
    assert [one["name"] for one in (await customer.get("/api/v1/clusters")).json()["data"]] == ["most"]
    assert len((await customer.get("/api/v1/workloads")).json()["data"]) == 1


async def test_the_same_request_twice_makes_one_and_a_name_is_one_machine_s(customer):
    headers = {"idempotency-key": "once"}
    one = await customer.post("/api/v1/instances", json=NONE, headers=headers)
    two = await customer.post("/api/v1/instances", json=NONE, headers=headers)
    assert one.status_code == 201 and one.json()["id"] == two.json()["id"]
    again = await customer.post("/api/v1/clusters", json={**NONE, "nodes": 1})
    assert (again.status_code, again.json()["code"]) == (409, "instance_name_taken")
