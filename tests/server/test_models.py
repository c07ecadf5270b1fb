"""Models over HTTP: what an operator adds can be called, by the keys that may."""

import pytest

UPSTREAM = {"name": "far/away", "engine": "external", "source": {"upstream": "http://127.0.0.1:9/v1"}}


@pytest.fixture
async def added(operator):
    answer = await operator.post("/api/v1/models", json=UPSTREAM)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_an_upstream_can_be_called_at_once(customer, added):
    listed = (await customer.get("/v1/models")).json()
    assert listed["object"] == "list" and [row["id"] for row in listed["data"]] == ["far/away"]
    assert listed["data"][0]["object"] == "model"
    for path in ("/v1/models/far/away", "/v1/models/far%2Faway"):
        assert (await customer.get(path)).json()["id"] == "far/away"
    endpoint = (await customer.get("/api/v1/endpoints/far%2Faway")).json()
    assert (endpoint["name"], endpoint["status"]) == ("far/away", "ready")


async def test_an_unknown_model_is_named_with_those_there_are(customer, added):
    refused = await customer.get("/v1/models/near")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "far/away" in error["message"]


async def test_a_key_sees_only_the_models_it_may_call(cloud, customer, added):
    body = {"name": "narrow", "scopes": ["inference"], "models": ["another"]}
    made = (await customer.post("/api/v1/api-keys", json=body)).json()
    async with cloud.client(made["key"]) as narrow:
        assert (await narrow.get("/v1/models")).json()["data"] == []
        assert (await narrow.get("/v1/models/far/away")).status_code == 404


async def test_listing_models_needs_the_scope_inference(cloud, customer):
    made = (await customer.post("/api/v1/api-keys", json={"name": "reader", "scopes": ["read"]})).json()
    async with cloud.client(made["key"]) as reader:
        refused = await reader.get("/v1/models")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")


async def test_only_operators_name_an_upstream(customer):
    refused = await customer.post("/api/v1/models", json=UPSTREAM)
    assert refused.status_code == 403


async def test_an_endpoint_that_answers_is_part_of_being_ready(cloud, added):
    assert (await cloud.services.health.reasons())["endpoints"] is None


async def test_no_endpoint_is_a_reason_not_to_be_ready(cloud):
    assert "no endpoint" in (await cloud.services.health.reasons())["endpoints"]
