"""Nodes that are ordered come later than planned: who has bought them hears of it, with the new date."""

from datetime import timedelta
from decimal import Decimal

from skerry.fleet.deliveries import DeliveryChange, NewDelivery
from tests.capacity.market import DAY, SKU, START, later, text


async def test_a_slip_is_told_to_those_who_bought_what_slips_and_again_when_it_slips_further(cloud, customer, fleet):
    deliveries = cloud.services.fleet.deliveries
    ordered = NewDelivery("hall", "portugal", SKU, 8, later(days=30), Decimal(1), hall="pt-a", leaf_size=8)
    await deliveries.plan(ordered)
    start = later(days=31)
    ask = {"sku": SKU, "nodes": 16, "start_at": text(start), "duration_seconds": 10 * DAY, "sites": ["portugal"]}
    quote = (await customer.post("/api/v1/quotes", json=ask)).json()
    offer = quote["offers"][0]
    bought = await customer.post("/api/v1/reservations", json={"offer_id": offer["id"], "confirm": True})
    assert bought.status_code == 201, bought.text

    async def told():
        events = (await customer.get(f"/api/v1/reservations/{bought.json()['id']}/events")).json()["data"]
        return [one["data"] for one in events if one["type"] == "reservation.at_risk"]

    for date in (start - timedelta(hours=1), later(days=35), later(days=35), later(days=36), later(days=50)):
        await deliveries.change("hall", DeliveryChange(service_at=date))
    found = await told()
    assert [one["expected_at"] for one in found] == [text(later(days=35)), text(later(days=36)), None]
    assert {(one["nodes_short"], one["start"]) for one in found} == {(8, text(start))}
    assert text(START + timedelta(days=35)) in found[0]["message"]
