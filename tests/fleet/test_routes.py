"""The fleet over HTTP: the operator's, in the forms of the API."""

import httpx
import pytest

from skerry.fleet.service import Fleet
from tests.fleet.conftest import Sale, Sales
from tests.fleet.fleets import SMALL
from tests.fleet.test_upkeep import DAY, NOW


@pytest.fixture
async def small(fleet: Fleet) -> Fleet:
    await fleet.declared.apply(SMALL)
    return fleet


async def post(client: httpx.AsyncClient, path: str, **body):
    return await client.post(f"/operator{path}", json=body)


async def test_a_file_is_planned_and_applied(client: httpx.AsyncClient):
    plan = (await post(client, "/fleet/plan", document=SMALL)).json()
    assert (plan["applied"], plan["counts"], plan["refused"]) == (False, {"add": 13, "change": 0, "remove": 0}, [])
    assert plan["changes"][5] == {
        "action": "add",
        "section": "nodes",
        "name": "a-1-[1-4]",
        "count": 4,
        "fields": {
            "sku": {"before": None, "after": "h100-sxm.8x"},
            "leaf": {"before": None, "after": "a-1"},
            "status": {"before": None, "after": "ready"},
        },
        "line": 9,
    }
    applied = (await post(client, "/fleet/apply", document=SMALL)).json()
    assert applied["applied"] and applied["changes"] == plan["changes"]
    events = (await client.get("/operator/fleet/events")).json()["data"]
    assert [event["type"] for event in events] == ["fleet.applied"]


async def test_a_bad_file_is_422_with_every_line(client: httpx.AsyncClient):
    answer = await post(client, "/fleet/apply", document="sites:\n- {name: a, pue: 0}\nracks: []\n")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_fleet_file")
    assert [(error["path"], error["code"]) for error in answer.json()["errors"]] == [
        ("line 2", "bad_pue"),
        ("line 3", "unknown_section"),
    ]


async def test_a_file_that_takes_what_is_sold_is_409(client: httpx.AsyncClient, small: Fleet, sales: Sales):
    sales.sales.append(Sale("res_1", "a-2", 1, NOW + DAY, NOW + 2 * DAY))
    plan = await post(client, "/fleet/plan", document="", prune=True)
    assert (plan.status_code, plan.json()["refused"]) == (200, ["res_1 lacks 1 in a-2"])
    answer = await post(client, "/fleet/apply", document="", prune=True)
    assert (answer.status_code, answer.json()["code"]) == (409, "sold_or_bound")


async def test_the_whole_fleet_in_one_answer(client: httpx.AsyncClient, small: Fleet):
    await post(client, "/nodes/a-1-1/fail", reason="dead")
    one, two = (await client.get("/operator/fleet")).json()["data"]
    assert one == {
        "site": "no-x",
        "country": "NO",
        "hall": "a",
        "leaf": "a-1",
        "sku": "h100-sxm.8x",
        "spares": 1,
        "size": 4,
        "statuses": {"ready": 3, "failed": 1},
        "sellable": 2,
        "planned": 0,
    }
    assert two["sellable"] == 4


async def test_the_catalogue(client: httpx.AsyncClient):
    listed = (await client.get("/operator/fleet/catalogue")).json()
    assert len(listed["data"]) == 8 and not listed["has_more"]
    assert all(sku["sources"]["tdp_w"] for sku in listed["data"])


async def test_verbs_of_nodes(client: httpx.AsyncClient, small: Fleet, sales: Sales):
    node = (await client.get("/operator/nodes/a-1-1")).json()
    assert node["actions"]["drain"] == {"available": True, "why_not": None}
    assert node["actions"]["retire"]["available"] is False
    sales.sales.append(Sale("res_1", "a-1", 4, NOW + DAY, NOW + 2 * DAY))
    refused = await post(client, "/nodes/a-1-1/drain", reason="fans")
    assert (refused.status_code, refused.json()["code"]) == (409, "breaks_reservations")
    assert refused.json()["reservations"][0]["reservation"] == "res_1"
    forced = (await post(client, "/nodes/a-1-1/drain", reason="fans", force=True)).json()
    assert (forced["status"], forced["makes_late"][0]["nodes_short"]) == ("draining", 1)
    back = (await post(client, "/nodes/a-1-1/resume", reason="mended")).json()
    assert (back["status"], back["makes_late"]) == ("ready", [])
    events = (await client.get("/operator/nodes/a-1-1/events")).json()["data"]
    assert [event["type"] for event in events] == ["node.draining", "node.makes_late", "node.ready"]
    assert (await client.get("/operator/nodes/none/events")).status_code == 404
    assert (await post(client, "/nodes/a-1-1/drain")).status_code == 422
    assert (await post(client, "/nodes/a-1-1/resume", reason="again")).json()["code"] == "illegal_transition"


async def test_checks_of_nodes(client: httpx.AsyncClient, small: Fleet):
    made = await post(client, "/nodes/a-1-1/checks", check="dcgm", ok=False, detail="xid 79")
    assert (made.status_code, made.json()["at"]) == (201, "2026-01-01T00:00:00Z")
    assert (await client.get("/operator/nodes/a-1-1/checks")).json()["data"] == [made.json()]
    assert (await client.get("/operator/nodes/a-1-1")).json()["health"]["dcgm"]["ok"] is False
    assert (await post(client, "/nodes/a-1-1/checks", check="UPPER", ok=True)).status_code == 422


@pytest.mark.parametrize("bad", ["\x00", "a\x1b[2Jb"])
async def test_what_cannot_be_kept_is_refused(client: httpx.AsyncClient, small: Fleet, bad):
    assert (await post(client, "/nodes/a-1-1/fail", reason=f"x{bad}x")).status_code == 422
    assert (await post(client, "/nodes/a-1-1/checks", check="c", ok=True, detail=f"x{bad}x")).status_code == 422
    window = {"nodes": 1, "start": "2026-01-02T00:00:00Z", "end": "2026-01-03T00:00:00Z", "reason": "r"}
    assert (await post(client, "/maintenance", leaf=f"x{bad}", **window)).status_code == 422
    assert (await post(client, "/fleet/plan", document=f"sites: [{{name: x{bad}}}]")).status_code == 422


async def test_maintenance(client: httpx.AsyncClient, small: Fleet):
    window = {"leaf": "a-1", "nodes": 2, "start": "2026-01-02T00:00:00Z", "end": "2026-01-03T00:00:00Z"}
    made = (await post(client, "/maintenance", **window, reason="pumps")).json()
    assert (made["sku"], made["makes_late"]) == ("h100-sxm.8x", [])
    got = (await client.get(f"/operator/maintenance/{made['id']}")).json()
    assert made == {**got, "makes_late": []}
    assert (await client.get("/operator/maintenance?leaf=a-1")).json()["data"] == [got]
    assert (await client.delete(f"/operator/maintenance/{made['id']}")).json() == got
    assert (await client.get(f"/operator/maintenance/{made['id']}")).status_code == 404
    wrong = await post(client, "/maintenance", **{**window, "nodes": 9}, reason="pumps")
    assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "nodes")


async def test_deliveries(client: httpx.AsyncClient, small: Fleet, sales: Sales):
    order = {"name": "d", "site": "no-x", "sku": "h100-sxm.8x", "nodes": 8, "service_at": "2026-06-01T00:00:00Z"}
    place = {"hall": "a", "leaf_size": 4, "leaf_prefix": "n", "confidence": 0.9}
    reached = {"ordered": {"reached_at": "2026-01-01T00:00:00Z"}}
    made = await post(client, "/deliveries", **order, **place, milestones=reached)
    assert made.status_code == 201, made.text
    assert made.json()["leaves"] == {"n-1": 4, "n-2": 4} and made.json()["confidence"] == 0.9
    assert [one["name"] for one in made.json()["milestones"]][-1] == "accepted"
    assert made.json()["milestone"] == "ordered"
    assert (await client.get("/operator/deliveries")).json()["data"] == [made.json()]
    sales.sales.append(Sale("res_1", "n-1", 3, NOW.replace(month=6), NOW.replace(month=7)))
    slipped = await client.patch("/operator/deliveries/d", json={"service_at": "2026-06-15T00:00:00Z"})
    assert [one["reservation"] for one in slipped.json()["makes_late"]] == ["res_1"]
    assert (await client.get("/operator/deliveries/d/events")).json()["data"][-1]["type"] == "delivery.slipped"
    gone = await client.delete("/operator/deliveries/d")
    assert gone.json() == {"makes_late": []}  # it was short already
    assert (await client.get("/operator/deliveries/d")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fleet"),
        ("GET", "/fleet/catalogue"),
        ("GET", "/fleet/events"),
        ("POST", "/fleet/plan"),
        ("POST", "/fleet/apply"),
        ("POST", "/nodes/x/drain"),
        ("GET", "/nodes/x/checks"),
        ("POST", "/maintenance"),
        ("GET", "/deliveries"),
        ("PATCH", "/deliveries/x"),
    ],
)
async def test_customers_have_no_business_here(client: httpx.AsyncClient, method, path):
    assert (await client.request(method, f"/customer{path}", json={})).status_code == 403
