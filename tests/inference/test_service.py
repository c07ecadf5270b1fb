"""What callers, customers and gateways see of endpoints."""

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text

from skerry.identity.access import Access
from skerry.inference.errors import UnknownEndpoint
from skerry.inference.routes import openai_router, router
from skerry.kernel.errors import SkerryError
from skerry.kernel.paging import PageRequest


@pytest.fixture
async def http(inference, endpoints, identity):
    app = FastAPI()
    app.include_router(router(inference, endpoints, Access(identity)), prefix="/api/v1")
    app.include_router(openai_router(inference, Access(identity)), prefix="/v1")

    @app.exception_handler(SkerryError)
    async def answer(request: Request, error: SkerryError) -> JSONResponse:
        return JSONResponse({"code": error.code, "detail": error.detail}, error.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_openais_list_of_models(cloud, http, people):
    await cloud.add_local()
    await cloud.add_upstream("org/far")
    listed = (await http.get("/v1/models", headers=bearer(people.customer_secret))).json()
    assert listed["object"] == "list"
    assert [row["id"] for row in listed["data"]] == ["near", "org/far"]
    assert listed["data"][0]["object"] == "model"
    assert listed["data"][0]["context_length"] == 2048
    assert listed["data"][0]["license"] == "mit"
    one = await http.get("/v1/models/org/far", headers=bearer(people.customer_secret))
    assert one.json()["id"] == "org/far"
    missing = await http.get("/v1/models/none", headers=bearer(people.customer_secret))
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")
    assert "near" in missing.json()["detail"]


async def test_a_key_sees_the_models_it_may_call(cloud, inference, people):
    await cloud.add_local()
    await cloud.add_upstream()
    limited = replace(people.customer, models=frozenset({"far", "elsewhere"}))
    assert [model.name for model in await inference.list_models(limited)] == ["far"]
    await cloud.remove("far")
    assert await inference.list_models(limited) == []


async def test_endpoints_of_other_projects_do_not_exist(cloud, inference, people, database):
    await cloud.add_upstream()
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE endpoints SET shared = false"))
    assert (await inference.list_endpoints(people.customer, PageRequest())).data == ()
    assert await inference.list_models(people.customer) == []
    with pytest.raises(UnknownEndpoint):
        await inference.get_endpoint(people.customer, "far")
    assert (await cloud.routes())["far"].project == people.operator.project_id


async def test_endpoints_over_http(cloud, http, people):
    await cloud.ready()
    await cloud.add_upstream()
    listed = await http.get("/api/v1/endpoints?limit=1", headers=bearer(people.customer_secret))
    assert listed.json()["has_more"]
    near = (await http.get("/api/v1/endpoints/near", headers=bearer(people.customer_secret))).json()
    assert (near["status"], near["kind"], near["model"]) == ("ready", "shared", "near")
    assert (near["min_replicas"], near["max_replicas"]) == (1, 1)
    assert near["replicas"][0]["status"] == "ready"
    assert near["replicas"][0]["workload_id"].startswith("wl_")
    assert near["actions"]["scale"]["available"] is False
    assert near["actions"]["scale"]["why_not"]
    assert cloud.compute.only.spec.files["key"] not in repr(near)
    events = await http.get("/api/v1/endpoints/near/events", headers=bearer(people.operator_secret))
    assert [event["type"] for event in events.json()["data"]] == [
        "endpoint.created",
        "endpoint.ready",
        "endpoint.cold_start",
    ]


async def test_customers_do_not_read_the_operators_logs(cloud, http, people):
    await cloud.ready()
    cloud.compute.dies("exit code 1; last lines of its log:\nsecret of the house")
    await cloud.reconcile()
    seen = await http.get("/api/v1/endpoints/near", headers=bearer(people.customer_secret))
    assert "exit code 1" in seen.text
    assert "secret of the house" not in seen.text
    assert seen.json()["replicas"][0]["node"] is None
    full = await http.get("/api/v1/endpoints/near", headers=bearer(people.operator_secret))
    assert "secret of the house" in full.text


async def test_a_key_that_cannot_be_decrypted_costs_one_route_its_replica(cloud, database):
    await cloud.ready()
    await cloud.add_upstream("one", upstream_key="k1")
    await cloud.add_upstream("two", upstream_key="k2")
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE models SET upstream_key = 'v1:gone:xxxx' WHERE name = 'one'"))
        await tx.execute(text("UPDATE replicas SET sealed_key = 'v1:gone:xxxx' WHERE workload IS NOT NULL"))
    routes = await cloud.routes()
    assert [len(routes[name].replicas) for name in ("near", "one", "two")] == [0, 0, 1]


async def test_usable_endpoints_are_counted_for_readiness(cloud, inference):
    assert await inference.usable_endpoints() == 0
    await cloud.add_local()
    assert await inference.usable_endpoints() == 0
    await cloud.add_upstream()
    assert await inference.usable_endpoints() == 1
