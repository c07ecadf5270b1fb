"""What can never be is 422, names its field, and says what would work."""

from datetime import timedelta

import pytest

from tests.capacity.market import DAY, SKU, START, text

GOOD = {"sku": SKU, "nodes": 4, "duration_seconds": DAY}
WINDOW = {"start": text(START), "end": text(START + timedelta(days=1)), "nodes": 2}

BAD = {
    "no nodes": ({"nodes": 0}, "nodes", "invalid"),
    "less than no nodes": ({"nodes": -3}, "nodes", "invalid"),
    "nodes as a text": ({"nodes": "4"}, "nodes", "invalid"),
    "half a node": ({"nodes": 1.5}, "nodes", "invalid"),
    "no time": ({"duration_seconds": 0}, "duration_seconds", "invalid"),
    "nodes left out": ({"nodes": None}, "nodes", "bad_window"),
    "no duration": ({"duration_seconds": None}, "duration_seconds", "bad_window"),
    "duration and end": ({"end_at": text(START + timedelta(days=1))}, "duration_seconds", "bad_window"),
    "an end without a start": (
        {"duration_seconds": None, "end_at": text(START + timedelta(days=1))},
        "end_at",
        "bad_window",
    ),
    "an end before its start": (
        {
            "duration_seconds": None,
            "start_at": text(START + timedelta(days=2)),
            "end_at": text(START + timedelta(days=1)),
        },
        "end_at",
        "bad_window",
    ),
    "two starts": (
        {"start_at": text(START + timedelta(days=2)), "earliest_after": text(START)},
        "earliest_after",
        "bad_window",
    ),
    "parts of a second": ({"start_at": "2026-02-01T00:00:00.5Z"}, "start_at", "invalid"),
    "a time without a zone": ({"start_at": "2026-02-01T00:00:00"}, "start_at", "invalid"),
    "a time as a number": ({"start_at": 1_800_000_000}, "start_at", "invalid"),
    "a number as a text": ({"start_at": "1800000000"}, "start_at", "invalid"),
    "the past": ({"start_at": text(START - timedelta(seconds=1))}, "start_at", "in_the_past"),
    "beyond the horizon": ({"start_at": text(START + timedelta(days=1096))}, "duration_seconds", "beyond_horizon"),
    "begins beyond the horizon": ({"start_at": "2090-01-01T00:00:00Z"}, "start_at", "beyond_horizon"),
    "longer than the calendar": ({"duration_seconds": 3_000_000_000}, "duration_seconds", "beyond_horizon"),
    "a year that no clock has": ({"earliest_after": "9999-12-31T23:59:59Z"}, "earliest_after", "beyond_horizon"),
    "an unknown SKU": ({"sku": "h200.8x"}, "sku", "unknown_sku"),
    "an unknown site": ({"sites": ["norway", "atlantis"]}, "sites.1", "unknown_site"),
    "an unknown scope": ({"scope": "rack"}, "scope", "invalid"),
    "a misspelt field": ({"node": 3}, "node", "invalid"),
    "more than there is": ({"nodes": 33}, "nodes", "scope_too_large"),
    "more than a leaf has": ({"nodes": 9, "scope": "leaf", "scope_required": True}, "nodes", "scope_too_large"),
    "more than a site has": ({"nodes": 9, "sites": ["portugal"]}, "nodes", "scope_too_large"),
    "an empty schedule": ({"nodes": None, "duration_seconds": None, "schedule": []}, "schedule", "invalid"),
    "a schedule beside nodes": ({"schedule": [WINDOW]}, "nodes", "bad_window"),
    "a schedule that overlaps": (
        {"nodes": None, "duration_seconds": None, "schedule": [WINDOW, WINDOW]},
        "schedule.1.start",
        "bad_window",
    ),
    "a window of no time": (
        {"nodes": None, "duration_seconds": None, "schedule": [{**WINDOW, "end": WINDOW["start"]}]},
        "schedule.0.end",
        "bad_window",
    ),
    "a window without nodes": (
        {"nodes": None, "duration_seconds": None, "schedule": [{**WINDOW, "nodes": 0}]},
        "schedule.0.nodes",
        "invalid",
    ),
}


@pytest.fixture
async def answers(customer):
    """All of them from one cloud: it takes longer to make than to ask."""
    found = {}
    for name, (change, _, _) in BAD.items():
        body = {field: value for field, value in {**GOOD, **change}.items() if value is not None}
        found[name] = await customer.post("/api/v1/quotes", json=body)
    return found


async def test_each_is_422_with_its_code_and_field(answers):
    for name, (_, path, code) in BAD.items():
        answer = answers[name]
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["code"] == code, (name, answer.text)
        assert answer.json()["errors"][0]["path"] == path, (name, answer.text)
        assert answer.json()["errors"][0]["message"], name


async def test_refusals_say_what_would_work(answers):
    assert answers["an unknown SKU"].json()["skus"] == [SKU]
    assert answers["an unknown site"].json()["sites"] == ["norway", "portugal"]
    assert answers["more than there is"].json()["largest"] == 32
    assert answers["more than a leaf has"].json()["largest"] == 8
    assert answers["beyond the horizon"].json()["horizon"] == text(START + timedelta(days=1096))
    assert "h100.8x" in answers["an unknown SKU"].json()["suggestion"]


async def test_a_project_stays_in_its_jurisdictions(cloud, fleet):
    async with cloud.client(cloud.operator_key) as operator:
        await operator.post("/api/v1/organizations", json={"name": "Nordic"})
        body = {"name": "fjord", "organization": "Nordic", "jurisdictions": ["NO"]}
        assert (await operator.post("/api/v1/projects", json=body)).status_code == 201
        at = "project=Nordic/fjord"
        answer = await operator.post(f"/api/v1/quotes?{at}", json={**GOOD, "sites": ["portugal"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "outside_jurisdiction")
        assert answer.json()["sites"] == ["norway"]
        quote = await operator.post(f"/api/v1/quotes?{at}", json={**GOOD, "nodes": 24})
        assert {leg["site"] for offer in quote.json()["offers"] for leg in offer["legs"]} == {"norway"}
        answer = await operator.post(f"/api/v1/quotes?{at}", json={**GOOD, "nodes": 25})
        assert answer.json()["code"] == "scope_too_large"
        seen = await operator.get(f"/api/v1/capacity/availability?{at}")
        assert {one["site"] for one in seen.json()["data"]} == {"norway"}


async def test_bad_availability_windows(customer):
    answer = await customer.get(f"/api/v1/capacity/availability?to={text(START)}")
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "to")
    answer = await customer.get("/api/v1/capacity/availability?site=nowhere")
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "site")
    answer = await customer.get("/api/v1/capacity/availability?sku=nothing")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_sku")
