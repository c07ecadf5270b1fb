"""Changes over HTTP: quoted, then done, and charged as quoted."""

from datetime import timedelta

from tests.capacity.market import DAY, SKU, START, text
from tests.capacity.routes.test_reserve import quoted


async def bought(customer, **wishes):
    """30 days from day 30 on, 4 nodes of one leaf, unless it says otherwise."""
    asked = {"start_at": text(START + timedelta(days=30)), "duration_seconds": 30 * DAY, **wishes}
    offer = (await quoted(customer, **asked))["offers"][0]
    answer = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"], "confirm": True})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def change_quote(customer, reservation, **change):
    answer = await customer.post(f"/api/v1/reservations/{reservation['id']}/change-quotes", json=change)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def apply(customer, reservation, quote):
    body = {"change_quote_id": quote["id"]}
    return await customer.post(f"/api/v1/reservations/{reservation['id']}/changes", json=body)


async def changed(customer, reservation, **change):
    quote = await change_quote(customer, reservation, **change)
    answer = await apply(customer, reservation, quote)
    assert answer.status_code == 200, answer.text
    return quote, answer.json()


def money(amount):
    return {"amount": amount, "currency": "USD"}


async def credit_committed(customer):
    budgets = (await customer.get("/api/v1/budgets")).json()["data"]
    return next(one["pending"]["amount"] for one in budgets if one["kind"] == "credit_limit")


async def test_cancelled_early_it_costs_nothing_and_its_nodes_are_free(customer):
    own = await bought(customer, nodes=32)
    quote, after = await changed(customer, own, kind="cancel")
    assert (quote["charge"], quote["refund"], quote["fee"]) == (money("0"), money("207360"), money("0"))
    assert quote["new_legs"] == []
    assert (after["status"], after["status_reason"]["code"]) == ("cancelled", "cancelled_by_customer")
    assert (await bought(customer, nodes=32))["status"] == "confirmed"
    events = (await customer.get(f"/api/v1/reservations/{own['id']}/events")).json()["data"]
    assert [event["type"] for event in events] == [
        "reservation.confirmed",
        "reservation.cancelled",
        "reservation.changed",
    ]
    assert events[-1]["data"]["refund"] == money("207360")


async def test_cancelled_late_it_costs_the_fee(customer, clock):
    own = await bought(customer)
    clock.advance(days=28)
    quote, after = await changed(customer, own, kind="cancel")
    assert (quote["charge"], quote["fee"], quote["refund"]) == (money("12960"), money("12960"), money("25920"))
    assert after["status"] == "cancelled"


async def test_giving_up_a_later_part_first_saves_no_fee(customer, clock):
    """Notice counts from the start of the reservation, whatever part of it is given up."""
    own = await bought(customer)
    clock.advance(days=28)
    since = text(START + timedelta(days=45))
    quote, _ = await changed(customer, own, kind="shrink", nodes=2, **{"from": since})
    assert (quote["fee"], quote["refund"]) == (money("3240"), money("6480"))
    quote, _ = await changed(customer, own, kind="cancel")
    assert quote["fee"] == money("9720"), "12960 in all, as if it had been cancelled at once"


async def test_what_was_not_there_at_its_start_costs_no_fee(customer, clock):
    """Also while nobody has written down that it is late."""
    own = await bought(customer)
    clock.advance(days=31)
    quote = await change_quote(customer, own, kind="cancel")
    assert quote["fee"] == money("0")


async def test_extended_on_its_own_nodes(customer):
    own = await bought(customer)
    end = START + timedelta(days=61)
    quote, after = await changed(customer, own, kind="extend", end_at=text(end))
    assert (quote["charge"], quote["refund"]) == (money("864"), money("0"))
    assert after["end"] == text(end)
    assert [leg["leaf"] for leg in after["legs"]] == [leg["leaf"] for leg in own["legs"]]
    assert after["price"]["total"] == "26784"


async def test_a_bad_change_names_the_field_that_was_sent(customer):
    own = await bought(customer, nodes=4)
    for change, path in (
        ({"kind": "extend"}, "end_at"),
        ({"kind": "extend", "end_at": "tomorrow"}, "end_at"),
        ({"kind": "split", "parts": [{"project": "default", "nodes": 0}]}, "parts.0.nodes"),
        ({"kind": "grow"}, "kind"),
        ({}, "kind"),
    ):
        answer = await customer.post(f"/api/v1/reservations/{own['id']}/change-quotes", json=change)
        assert (answer.status_code, [one["path"] for one in answer.json()["errors"]]) == (422, [path]), answer.text


async def test_an_extension_that_is_promised_to_others_says_how_far_it_can_go(customer):
    own = await bought(customer, nodes=32)
    await bought(customer, start_at=text(START + timedelta(days=65)), nodes=32, duration_seconds=DAY)
    answer = await customer.post(
        f"/api/v1/reservations/{own['id']}/change-quotes",
        json={"kind": "extend", "end_at": text(START + timedelta(days=70))},
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "no_room_for_change")
    assert answer.json()["latest"] == text(START + timedelta(days=65))


async def test_shrunk_from_a_day_on(customer):
    own = await bought(customer, nodes=16)
    since = START + timedelta(days=45)
    quote, after = await changed(customer, own, kind="shrink", nodes=8, **{"from": text(since)})
    assert (quote["charge"], quote["refund"]) == (money("0"), money("25920"))
    assert sorted((leg["nodes"], leg["start"], leg["end"]) for leg in after["legs"]) == [
        (8, own["start"], text(since)),
        (8, own["start"], own["end"]),
    ]
    assert after["price"]["total"] == "77760"


async def test_moved_to_another_time_and_site(customer):
    own = await bought(customer)
    start = START + timedelta(days=60)
    quote, after = await changed(customer, own, kind="move", start_at=text(start), site="portugal")
    assert (quote["charge"], quote["refund"], quote["fee"]) == (money("0"), money("0"), money("0"))
    assert (after["start"], {leg["site"] for leg in after["legs"]}) == (text(start), {"portugal"})
    assert (await bought(customer, nodes=32, duration_seconds=30 * DAY))["status"] == "confirmed"


async def test_a_move_may_overlap_with_where_it_was(customer):
    own = await bought(customer, nodes=32)
    _, after = await changed(customer, own, kind="move", start_at=text(START + timedelta(days=31)))
    assert after["start"] == text(START + timedelta(days=31))


async def test_split_between_projects_of_the_organization(customer, cloud):
    assert (await customer.post("/api/v1/projects", json={"name": "research"})).status_code == 201
    own = await bought(customer, nodes=16)
    before = await credit_committed(customer)
    parts = [{"project": "research", "nodes": 4}, {"project": "default", "nodes": 2}]
    quote, after = await changed(customer, own, kind="split", parts=parts)
    assert (quote["charge"], quote["refund"]) == (money("0"), money("0"))
    assert len(after["created"]) == 2
    assert (after["nodes"], after["price"]["total"]) == (10, "64800")
    mine = (await customer.get(f"/api/v1/reservations/{after['created'][1]}")).json()
    assert (mine["nodes"], mine["parent"], mine["status_reason"]["code"]) == (2, own["id"], "split_off")
    assert (await customer.get(f"/api/v1/reservations/{after['created'][0]}")).status_code == 404
    async with cloud.client(cloud.operator_key) as operator:
        theirs = await operator.get(f"/api/v1/reservations/{after['created'][0]}?project=demo/research")
        assert theirs.json()["nodes"] == 4
    assert await credit_committed(customer) == before


async def test_split_into_nothing_left_cancels_the_parent(customer):
    own = await bought(customer)
    parts = [{"project": "default", "nodes": 4}]
    _, after = await changed(customer, own, kind="split", parts=parts)
    assert (after["status"], after["status_reason"]["code"]) == ("cancelled", "all_split_off")
    again = await customer.post("/api/v1/quotes", json={"sku": SKU, "nodes": 32, "duration_seconds": 40 * DAY})
    assert again.json()["offers"][0]["start"] == own["end"]


async def test_a_change_quote_is_good_once_and_for_one_version(customer, clock):
    own = await bought(customer)
    first = await change_quote(customer, own, kind="extend", end_at=text(START + timedelta(days=61)))
    second = await change_quote(customer, own, kind="extend", end_at=text(START + timedelta(days=62)))
    assert (await apply(customer, own, first)).status_code == 200
    for stale in (first, second):
        answer = await apply(customer, own, stale)
        assert (answer.status_code, answer.json()["code"]) == (409, "change_lapsed")
    assert answer.json()["quote"]["charge"] == money("864")
    third = await change_quote(customer, own, kind="extend", end_at=text(START + timedelta(days=63)))
    clock.advance(minutes=6)
    answer = await apply(customer, own, third)
    assert (answer.status_code, answer.json()["code"]) == (409, "change_lapsed")
    assert (await apply(customer, own, answer.json()["quote"])).status_code == 200


async def test_a_move_is_not_made_to_what_is_over(customer, clock):
    own = await bought(customer, nodes=1, duration_seconds=60, start_at=text(START + timedelta(days=30)))
    quote = await change_quote(customer, own, kind="move", start_at=text(START + timedelta(seconds=30)))
    assert quote["expires_at"] == quote["new_legs"][0]["end"]
    clock.advance(seconds=100)
    answer = await apply(customer, own, quote)
    assert (answer.status_code, answer.json()["code"]) == (409, "change_lapsed")


async def test_what_cannot_be_changed_says_so(customer):
    own = await bought(customer)
    hold = await customer.post("/api/v1/reservations", json={"offer_id": (await quoted(customer))["offers"][0]["id"]})
    cases = (
        (hold.json(), {"kind": "cancel"}, 409, "not_changeable"),
        (own, {"kind": "extend", "end_at": own["end"]}, 422, "bad_change"),
        (own, {"kind": "extend", "end_at": "2100-01-01T00:00:00Z"}, 422, "beyond_horizon"),
        (own, {"kind": "shrink", "nodes": 4}, 422, "bad_change"),
        (own, {"kind": "shrink", "nodes": 0}, 422, "invalid"),
        (own, {"kind": "move", "start_at": own["start"]}, 422, "bad_change"),
        (own, {"kind": "move", "start_at": "2020-01-01T00:00:00Z"}, 422, "in_the_past"),
        (own, {"kind": "split", "parts": [{"project": "default", "nodes": 5}]}, 422, "bad_change"),
        (own, {"kind": "split", "parts": [{"project": "nobody", "nodes": 1}]}, 422, "bad_change"),
        (own, {"kind": "grow"}, 422, "invalid"),
    )
    for reservation, change, status, code in cases:
        answer = await customer.post(f"/api/v1/reservations/{reservation['id']}/change-quotes", json=change)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (change, answer.text)
    await changed(customer, own, kind="cancel")
    answer = await customer.post(f"/api/v1/reservations/{own['id']}/change-quotes", json={"kind": "cancel"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_changeable")
