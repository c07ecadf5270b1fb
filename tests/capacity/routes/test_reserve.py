"""From a quote to a reservation, over HTTP."""

from datetime import timedelta

import pytest

from tests.capacity.market import DAY, SKU, START, text


async def quoted(customer, **wishes):
    answer = await customer.post("/api/v1/quotes", json={"sku": SKU, "nodes": 4, "duration_seconds": DAY, **wishes})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def held(customer, **wishes):
    offer = (await quoted(customer, **wishes))["offers"][0]
    answer = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"]})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_quote_is_held_and_confirmed(customer):
    quote = await quoted(customer)
    offer = quote["offers"][0]
    assert offer["kind"] == "earliest"
    assert offer["start"] == text(START)
    assert [leg["nodes"] for leg in offer["legs"]] == [4]
    assert offer["price"]["total"] == "864"
    assert offer["price"]["lines"] == [{"line": "compute", "node_hour": "9", "amount": "864"}]
    assert offer["energy"] == {"kwh": 1056.0, "gco2e": 21120}

    hold = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"], "name": "first"})
    assert hold.status_code == 201, hold.text
    assert hold.json()["status"] == "held"
    assert hold.json()["expires_at"] == text(START + timedelta(minutes=15))
    assert hold.json()["actions"]["confirm"] == {"available": True, "why_not": None}

    bought = await customer.post(f"/api/v1/reservations/{hold.json()['id']}/confirm")
    assert bought.status_code == 200, bought.text
    assert bought.json()["status"] == "confirmed"
    assert bought.json()["expires_at"] is None
    again = await customer.post(f"/api/v1/reservations/{hold.json()['id']}/confirm")
    assert again.json() == bought.json()

    events = await customer.get(f"/api/v1/reservations/{hold.json()['id']}/events")
    assert [event["type"] for event in events.json()["data"]] == ["reservation.held", "reservation.confirmed"]


async def test_confirm_buys_at_once(customer):
    offer = (await quoted(customer))["offers"][0]
    answer = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"], "confirm": True})
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "confirmed"
    assert answer.json()["confirmed_at"] is not None


async def test_a_dry_run_changes_nothing(customer):
    offer = (await quoted(customer))["offers"][0]
    answer = await customer.post("/api/v1/reservations?dry_run=true", json={"offer_id": offer["id"]})
    assert answer.status_code == 200
    assert answer.json()["price"] == offer["price"]
    assert (await customer.get("/api/v1/reservations")).json()["data"] == []
    hold = await held(customer)
    answer = await customer.post(f"/api/v1/reservations/{hold['id']}/confirm?dry_run=true")
    assert answer.json()["price"]["total"] == "864"
    assert (await customer.get(f"/api/v1/reservations/{hold['id']}")).json()["status"] == "held"


async def test_a_hold_is_dropped_and_its_nodes_are_free_again(customer):
    hold = await held(customer, nodes=32)
    assert (await quoted(customer))["offers"][0]["start"] == hold["end"]
    dropped = await customer.delete(f"/api/v1/reservations/{hold['id']}")
    assert dropped.status_code == 200
    assert dropped.json()["status"] == "cancelled"
    assert dropped.json()["status_reason"]["code"] == "dropped"
    assert (await quoted(customer))["offers"][0]["start"] == text(START)


async def test_what_is_bought_is_not_deleted(customer):
    offer = (await quoted(customer))["offers"][0]
    bought = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"], "confirm": True})
    answer = await customer.delete(f"/api/v1/reservations/{bought.json()['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_a_hold")
    assert "change-quotes" in answer.json()["suggestion"]


async def test_a_hold_lapses_by_time_alone(customer, clock):
    hold = await held(customer, nodes=32)
    clock.advance(minutes=15)
    shown = (await customer.get(f"/api/v1/reservations/{hold['id']}")).json()
    assert (shown["status"], shown["status_reason"]["code"]) == ("expired", "hold_lapsed")
    assert shown["ended_at"] == hold["expires_at"]
    assert (await quoted(customer, nodes=32))["offers"][0]["start"] == text(clock.now())
    listed = await customer.get("/api/v1/reservations?status=expired")
    assert [one["id"] for one in listed.json()["data"]] == [hold["id"]]
    assert (await customer.get("/api/v1/reservations?status=held")).json()["data"] == []


async def test_a_lapsed_hold_is_refused_with_a_fresh_quote_and_written_down(customer, clock):
    hold = await held(customer)
    clock.advance(minutes=20)
    answer = await customer.post(f"/api/v1/reservations/{hold['id']}/confirm")
    assert (answer.status_code, answer.json()["code"]) == (409, "hold_expired")
    fresh = answer.json()["quote"]["offers"][0]
    assert fresh["start"] == text(clock.now())
    events = (await customer.get(f"/api/v1/reservations/{hold['id']}/events")).json()["data"]
    assert [event["type"] for event in events] == ["reservation.held", "reservation.expired", "reservation.lapsed"]
    assert events[-1]["data"]["effective_at"] == hold["expires_at"]
    assert (await customer.post("/api/v1/reservations", json={"offer_id": fresh["id"]})).status_code == 201


async def test_an_offer_that_lapsed_comes_with_a_fresh_quote(customer, clock):
    offer = (await quoted(customer))["offers"][0]
    clock.advance(minutes=6)
    answer = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "offer_lapsed")
    assert answer.json()["quote"]["offers"][0]["start"] == text(clock.now())


async def test_an_offer_that_was_taken_comes_with_a_fresh_quote(customer):
    first, second = await quoted(customer, nodes=32), await quoted(customer, nodes=32)
    taken = await customer.post("/api/v1/reservations", json={"offer_id": first["offers"][0]["id"]})
    assert taken.status_code == 201
    answer = await customer.post("/api/v1/reservations", json={"offer_id": second["offers"][0]["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "offer_taken")
    assert answer.json()["quote"]["offers"][0]["start"] == taken.json()["end"]


async def test_one_offer_is_sold_once_but_a_repeated_request_gets_its_answer(customer):
    offer = (await quoted(customer))["offers"][0]
    body, key = {"offer_id": offer["id"]}, {"idempotency-key": "one"}
    first = await customer.post("/api/v1/reservations", json=body, headers=key)
    again = await customer.post("/api/v1/reservations", json=body, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    other = await customer.post("/api/v1/reservations", json=body)
    assert (other.status_code, other.json()["code"]) == (409, "offer_taken")
    assert len((await customer.get("/api/v1/reservations")).json()["data"]) == 1


async def test_credit_that_does_not_cover_it_is_402_and_nothing_is_sold(customer, cloud, fleet):
    async with cloud.client(cloud.operator_key) as operator:
        made = await operator.post("/api/v1/organizations", json={"name": "Small"})
        project = await operator.post("/api/v1/projects", json={"name": "tiny", "organization": "Small"})
        assert (made.status_code, project.status_code) == (201, 201)
        budget = {"target": {"project": "Small/tiny"}, "limit": {"amount": "10", "currency": "USD"}, "window": "total"}
        at = "project=Small/tiny"
        answer = await operator.post(f"/api/v1/budgets?{at}", json=budget)
        assert answer.status_code == 201, answer.text
        offer = await operator.post(f"/api/v1/quotes?{at}", json={"sku": SKU, "nodes": 4, "duration_seconds": DAY})
        body = {"offer_id": offer.json()["offers"][0]["id"], "confirm": True}
        answer = await operator.post(f"/api/v1/reservations?{at}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (402, "budget_exhausted")
        assert (await operator.get(f"/api/v1/reservations?{at}")).json()["data"] == []
        hold = await operator.post(f"/api/v1/reservations?{at}", json={**body, "confirm": False})
        tried = await operator.post(f"/api/v1/reservations/{hold.json()['id']}/confirm?dry_run=true&{at}")
        assert (tried.status_code, tried.json()["code"]) == (402, "budget_exhausted")
        await operator.delete(f"/api/v1/reservations/{hold.json()['id']}?{at}")
    assert (await quoted(customer, nodes=32))["offers"][0]["start"] == text(START)


async def test_another_projects_things_do_not_exist(customer, cloud, fleet):
    quote, hold = await quoted(customer), await held(customer)
    async with cloud.client(cloud.operator_key) as operator:
        await operator.post("/api/v1/organizations", json={"name": "Others"})
        await operator.post("/api/v1/projects", json={"name": "theirs", "organization": "Others"})
        at = "project=Others/theirs"
        for method, path, body in (
            ("GET", f"/quotes/{quote['id']}", None),
            ("GET", f"/reservations/{hold['id']}", None),
            ("GET", f"/reservations/{hold['id']}/delivery", None),
            ("GET", f"/reservations/{hold['id']}/events", None),
            ("DELETE", f"/reservations/{hold['id']}", None),
            ("POST", f"/reservations/{hold['id']}/confirm", None),
            ("POST", f"/reservations/{hold['id']}/change-quotes", {"kind": "cancel"}),
            ("POST", f"/reservations/{hold['id']}/changes", {"change_quote_id": "cq_x"}),
            ("POST", "/reservations", {"offer_id": quote["offers"][0]["id"]}),
        ):
            answer = await operator.request(method, f"/api/v1{path}?{at}", json=body)
            assert answer.status_code == 404, (method, path, answer.text)
        assert (await operator.get(f"/api/v1/reservations?{at}")).json()["data"] == []
        mine = await operator.get("/api/v1/reservations?project=demo/default")
        assert [one["id"] for one in mine.json()["data"]] == [hold["id"]]


async def test_reservations_are_listed_by_page_newest_first(customer):
    ids = [(await held(customer, nodes=1))["id"] for _ in range(3)]
    first = (await customer.get("/api/v1/reservations?limit=2")).json()
    second = (await customer.get(f"/api/v1/reservations?limit=2&after={first['next_cursor']}")).json()
    assert [one["id"] for one in first["data"] + second["data"]] == ids[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


@pytest.mark.parametrize("capacity_class, total", [("on_demand", "1382.4"), ("spot", "691.2")])
async def test_on_demand_is_priced_and_not_held(customer, capacity_class, total):
    quote = await quoted(customer, capacity_class=capacity_class)
    (offer,) = quote["offers"]
    assert (offer["kind"], offer["price"]["total"]) == ("as_requested", total)
    answer = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_reservable")


async def test_availability_is_a_schedule_by_site_and_sku(customer):
    hold = await held(customer, nodes=8, sites=["norway"], duration_seconds=DAY)
    end = text(START + timedelta(days=2))
    answer = await customer.get(f"/api/v1/capacity/availability?sku={SKU}&to={end}")
    assert answer.status_code == 200, answer.text
    found = {(one["site"], one["sku"]): one for one in answer.json()["data"]}
    assert found["norway", SKU]["schedule"] == [
        {"start": text(START), "end": hold["end"], "free_nodes": 16},
        {"start": hold["end"], "end": end, "free_nodes": 24},
    ]
    assert found["portugal", SKU]["schedule"] == [{"start": text(START), "end": end, "free_nodes": 8}]
    one = await customer.get("/api/v1/capacity/availability?site=portugal")
    assert {found["site"] for found in one.json()["data"]} == {"portugal"}


async def test_a_quote_is_read_again_as_it_was_answered(customer):
    quote = await quoted(customer)
    assert (await customer.get(f"/api/v1/quotes/{quote['id']}")).json() == quote


async def test_delivery_of_what_has_not_begun_is_empty(customer):
    hold = await held(customer)
    answer = (await customer.get(f"/api/v1/reservations/{hold['id']}/delivery")).json()
    assert (answer["promised_node_seconds"], answer["delivered_node_seconds"], answer["data"]) == (0, 0, [])
