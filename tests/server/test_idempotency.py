"""`Idempotency-Key`: the same request twice is done once."""

import asyncio

import pytest

BODY = {"name": "robot", "scopes": ["read"]}


async def post(client, key, body=BODY, path="/api/v1/api-keys", **params):
    return await client.post(path, json=body, headers={"Idempotency-Key": key}, params=params)


async def count_keys(client):
    return len((await client.get("/api/v1/api-keys")).json()["data"])


async def test_a_replay_has_the_first_answer_without_its_secret(customer):
    first = await post(customer, "one")
    again = await post(customer, "one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == {**first.json(), "key": None} and first.json()["key"]
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert await count_keys(customer) == 2


async def test_another_body_or_route_under_the_same_key_conflicts(customer):
    await post(customer, "one")
    for other in (
        await post(customer, "one", {**BODY, "name": "other"}),
        await post(customer, "one", {"name": "x"}, "/api/v1/service-accounts"),
        await post(customer, "one", project="default"),
    ):
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


async def test_duplicates_at_the_same_time_are_done_once(customer):
    answers = await asyncio.gather(*(post(customer, "one") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.json()["key"] is not None for answer in answers) == 1
    assert await count_keys(customer) == 2


async def test_different_keys_do_not_wait_for_each_other_for_ever(customer):
    answers = await asyncio.gather(*(post(customer, f"key-{n}") for n in range(20)))
    assert {answer.status_code for answer in answers} == {201}


async def test_what_was_refused_may_be_tried_again(customer, clock):
    body = {**BODY, "expires_at": "2025-12-31T00:00:00Z"}
    assert (await post(customer, "one", body)).status_code == 422
    assert (await post(customer, "one")).status_code == 201


async def test_the_keys_of_two_callers_have_nothing_to_do_with_each_other(cloud, customer):
    other = (await customer.post("/api/v1/api-keys", json={"name": "w", "scopes": ["read", "write"]})).json()["key"]
    async with cloud.client(other) as second:
        mine, theirs = await post(customer, "one"), await post(second, "one")
    assert mine.json()["id"] != theirs.json()["id"]


async def test_a_key_that_was_revoked_gets_no_replay(cloud, customer):
    minted = (await customer.post("/api/v1/api-keys", json={"name": "w", "scopes": ["read", "write"]})).json()
    async with cloud.client(minted["key"]) as client:
        assert (await post(client, "one")).status_code == 201
        await customer.delete(f"/api/v1/api-keys/{minted['id']}")
        assert (await post(client, "one")).status_code == 401


async def test_rotation_is_idempotent_too(customer):
    id = (await customer.post("/api/v1/api-keys", json=BODY)).json()["id"]
    first = await customer.post(f"/api/v1/api-keys/{id}/rotate", headers={"Idempotency-Key": "r"})
    again = await customer.post(f"/api/v1/api-keys/{id}/rotate", headers={"Idempotency-Key": "r"})
    assert first.json()["last4"] == again.json()["last4"] and again.json()["key"] is None


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb"])
async def test_what_is_no_idempotency_key(customer, key):
    refused = await post(customer, key)
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "Idempotency-Key")
