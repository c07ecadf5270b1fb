"""I6 over every route of the API: a stranger's key gets nothing of another project, whatever it asks for."""

import json

import pytest

from skerry.compute.model import WorkloadKind, WorkloadSpec
from skerry.kernel.ids import ProjectId
from tests.machines.scene import KEY

REFUSED = {401, 403, 404, 405}
HARMLESS = {400, 409, 422}


def operations(app, prefix=("/api/v1/", "/v1/")):
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            if path.startswith(prefix):
                yield method.upper(), path, operation


@pytest.fixture
async def mine(cloud, customer):
    """Things of the demo project whose names a stranger must never see, by path parameter."""
    account = (await customer.post("/api/v1/service-accounts", json={"name": "canary-account"})).json()
    body = {"name": "canary-key", "scopes": ["read"], "service_account": account["id"]}
    key = (await customer.post("/api/v1/api-keys", json=body)).json()
    member = (await customer.post("/api/v1/members", json={"email": "canary@example.org", "role": "owner"})).json()
    whoami = (await customer.get("/api/v1/whoami")).json()
    spec = WorkloadSpec(kind=WorkloadKind.JOB, name="canary-job", resource="canary", command=("true",))
    async with cloud.services.db.transaction() as tx:
        project = ProjectId(whoami["project_id"])
        workload = (await cloud.services.compute.create_workload(tx, project, spec)).id
    assert (await customer.get(f"/api/v1/workloads/{workload}/events")).status_code == 200
    line = b'{"custom_id": "canary-row", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m"}}'
    form = {"data": {"purpose": "batch"}, "files": {"file": ("canary-file", line)}}
    file = (await customer.post("/v1/files", **form)).json()["id"]
    public = {"name": "canary-ssh", "public_key": KEY}
    ssh_key = (await customer.post("/api/v1/ssh-keys", json=public)).json()["id"]
    return {
        "ssh-keys": ssh_key,
        "workloads": workload,
        "files": file,
        "api-keys": key["id"],
        "service-accounts": account["id"],
        "members": member["id"],
        "projects": whoami["project_id"],
        "organizations": whoami["organization_id"],
        "canaries": [ssh_key, workload, file, key["id"], account["id"], member["id"], whoami["project_id"], "canary"],
    }


@pytest.fixture(params=["other organization", "same organization"])
async def stranger(request, cloud, operator):
    """A key with every right in a project that has nothing to do with the demo's."""
    organization = "demo"
    if request.param == "other organization":
        organization = "elsewhere"
        await operator.post("/api/v1/organizations", json={"name": organization})
    await operator.post("/api/v1/projects", json={"name": "strange", "organization": organization})
    made = await operator.post(
        "/api/v1/api-keys?project=strange",
        json={"name": "stranger", "scopes": ["inference", "read", "write", "billing"]},
    )
    async with cloud.client(made.json()["key"]) as client:
        yield client


async def test_no_route_answers_without_a_key(cloud, nobody):
    seen = 0
    for method, path, _ in operations(cloud.app):
        answer = await nobody.request(method, path.replace("{", "").replace("}", ""), json={})
        assert answer.status_code == 401, (method, path, answer.status_code)
        seen += 1
    assert seen > 20


async def test_a_stranger_sees_nothing_of_another_project(cloud, stranger, mine):
    for method, path, operation in operations(cloud.app):
        scoped = any(p["name"] == "project" and p["in"] == "query" for p in operation.get("parameters", ()))
        for query in ("", f"?project={mine['projects']}", "?project=demo/default", "?organization=demo"):
            answer = await stranger.request(method, _filled(path, mine) + query, json={})
            where = (method, path, query, answer.status_code)
            assert answer.status_code < 500, where
            if (scoped and "project=" in query) or ("{" in path and answer.status_code not in HARMLESS):
                assert answer.status_code in REFUSED, where
            # The stranger's own trail holds the addresses it was refused at: nothing that it did not know.
            if answer.status_code < 300 and path != "/api/v1/audit-events":
                assert not [canary for canary in mine["canaries"] if canary in answer.text], where


async def test_a_stranger_reads_its_own_trail_alone(stranger, mine):
    await stranger.get(f"/api/v1/projects/{mine['projects']}")
    own = (await stranger.get("/api/v1/whoami")).json()
    events = (await stranger.get("/api/v1/audit-events?limit=500")).json()["data"]
    assert events and {event["organization_id"] for event in events} == {own["organization_id"]}
    assert {event["project_id"] for event in events} <= {own["project_id"], None}


async def test_a_stranger_s_valid_bodies_change_nothing(stranger, mine, customer):
    before = [(await customer.get(path)).json() for path in ("/api/v1/api-keys", "/api/v1/members", "/api/v1/projects")]
    attempts = [
        ("PATCH", f"/api/v1/api-keys/{mine['api-keys']}", {"name": "taken"}),
        ("POST", f"/api/v1/api-keys/{mine['api-keys']}/rotate", {}),
        ("DELETE", f"/api/v1/api-keys/{mine['api-keys']}", None),
        ("DELETE", f"/api/v1/service-accounts/{mine['service-accounts']}", None),
        ("PATCH", f"/api/v1/members/{mine['members']}", {"role": "viewer"}),
        ("DELETE", f"/api/v1/members/{mine['members']}", None),
        ("PATCH", f"/api/v1/projects/{mine['projects']}", {"jurisdictions": ["US"]}),
        ("POST", "/api/v1/api-keys?project=default", {"name": "x", "scopes": ["read"]}),
        ("POST", "/api/v1/api-keys", {"name": "x", "scopes": ["read"], "service_account": mine["service-accounts"]}),
        ("POST", "/api/v1/projects", {"name": "x", "organization": "demo"}),
        ("POST", "/api/v1/members?organization=demo", {"email": "spy@example.org", "role": "owner"}),
    ]
    for method, path, body in attempts:
        answer = await stranger.request(method, path, content=json.dumps(body).encode() if body is not None else None,
                                        headers={"content-type": "application/json"})  # fmt: skip
        assert answer.status_code in {403, 404}, (method, path, answer.status_code, answer.text)
    after = [(await customer.get(path)).json() for path in ("/api/v1/api-keys", "/api/v1/members", "/api/v1/projects")]
    # The home project's key sees the stranger's project where it is one of its organization.
    assert after == before


async def test_every_route_needs_a_scope_that_a_key_can_lack(cloud, customer, mine):
    """A key that may only call models reads and changes nothing of the control API, itself excepted."""
    made = await customer.post("/api/v1/api-keys", json={"name": "caller", "scopes": ["inference"]})
    async with cloud.client(made.json()["key"]) as caller:
        for method, path, _ in operations(cloud.app, ("/api/v1/",)):
            answer = await caller.request(method, _filled(path, mine), json={})
            if path == "/api/v1/whoami":
                assert answer.status_code == 200
            else:
                assert answer.status_code == 403, (method, path, answer.status_code)
                assert answer.json()["code"] == "missing_scope"


async def test_reading_keys_change_nothing(cloud, customer, mine):
    made = await customer.post("/api/v1/api-keys", json={"name": "reader", "scopes": ["read"]})
    async with cloud.client(made.json()["key"]) as reader:
        for method, path, _ in operations(cloud.app, ("/api/v1/",)):
            if method != "GET":
                answer = await reader.request(method, _filled(path, mine), json={})
                assert answer.status_code == 403, (method, path, answer.status_code)


def _filled(path, mine):
    parts = path.split("/")
    at = 3 if parts[1] == "api" else 2
    collection = parts[at] if len(parts) > at else ""
    return "/".join(mine.get(collection, "unknown") if part.startswith("{") else part for part in parts)
