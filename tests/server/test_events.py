"""Timelines: a project's, a resource's, and the stream that follows."""

import asyncio
import json
from contextlib import aclosing

import pytest

from skerry.server.events import EventFeed
from tests.waiting import eventually


async def test_each_resource_has_a_timeline(customer):
    key = (await customer.post("/api/v1/api-keys", json={"name": "robot", "scopes": ["read"]})).json()
    await customer.post(f"/api/v1/api-keys/{key['id']}/rotate")
    await customer.delete(f"/api/v1/api-keys/{key['id']}")
    timeline = (await customer.get(f"/api/v1/api-keys/{key['id']}/events")).json()["data"]
    assert [event["type"] for event in timeline] == ["api_key.created", "api_key.rotated", "api_key.revoked"]
    assert (await customer.get("/api/v1/api-keys/key_unknown/events")).status_code == 404


async def test_a_project_s_timeline_comes_in_pages(customer):
    for number in range(3):
        await customer.post("/api/v1/service-accounts", json={"name": f"robot-{number}"})
    seen, query = [], {"limit": 2}
    while True:
        page = (await customer.get("/api/v1/events", params=query)).json()
        seen += [event["type"] for event in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["next_cursor"]
    assert seen == ["project.created", "api_key.created"] + ["service_account.created"] * 3


@pytest.fixture
def follow(cloud):
    """Reads events of the demo project's stream until it has enough, with a deadline."""

    async def read(feed: EventFeed, count: int, allowed=lambda: True, after=None):
        async def may():
            return allowed()

        project = (await cloud.services.identity.authenticate(cloud.project_key)).project_id
        found = []
        async with asyncio.timeout(30):
            async with aclosing(feed.follow(project, await feed.start(after), may)) as stream:
                async for frame in stream:
                    if frame.startswith(b"id: "):
                        found.append(json.loads(frame.decode().split("data: ", 1)[1]))
                    if len(found) == count:
                        break
        return found

    return read


async def test_a_stream_tells_what_happens_from_now_on(cloud, customer, follow):
    feed = cloud.services.feed
    following = asyncio.create_task(follow(feed, 2))
    await eventually(lambda: feed._waiting)
    for name in ("a", "b"):
        await customer.post("/api/v1/service-accounts", json={"name": name})
        feed.missed()
    assert [event["data"]["name"] for event in await following] == ["a", "b"]
    assert feed._waiting == {}


async def test_a_stream_goes_on_where_another_ended(cloud, customer, follow):
    feed = cloud.services.feed
    for name in ("a", "b"):
        await customer.post("/api/v1/service-accounts", json={"name": name})
    listed = (await customer.get("/api/v1/events")).json()["data"]
    (event,) = await follow(feed, 1, after=listed[-2]["position"])
    assert event["data"]["name"] == "b"


async def test_a_stream_ends_when_its_key_does(cloud, follow, monkeypatch):
    monkeypatch.setattr("skerry.server.events._CHECK", 0.0)
    monkeypatch.setattr("skerry.server.events._LATER", 0.01)
    assert await follow(cloud.services.feed, 1, allowed=lambda: False) == []


async def test_streams_end_when_the_server_stops(cloud, follow):
    feed = cloud.services.feed
    following = asyncio.create_task(follow(feed, 1))
    await eventually(lambda: feed._waiting)
    feed.close()
    assert await following == []


async def test_the_stream_is_asked_for_by_accept(cloud, customer):
    cloud.services.feed.close()
    answer = await customer.get("/api/v1/events", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream") and answer.text.startswith(": following")
    refused = await customer.get("/api/v1/events?after=nonsense", headers={"accept": "text/event-stream"})
    assert refused.status_code == 400
