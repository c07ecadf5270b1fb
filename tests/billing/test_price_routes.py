"""Prices over HTTP."""

import httpx

ROW = {"meter": "tokens_prompt", "unit_quantity": 1_000_000, "unit_price": "0.05"}


async def test_what_is_read_can_be_published(customer: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    book = (await customer.get("/prices")).json()
    assert (book["version"], book["currency"], book["effective_from"]) == (1, "USD", "2026-01-01T00:00:00Z")
    assert {"meter": "tokens_prompt", "charge_by": "tokens", "unit_quantity": 1000000, "unit_price": "0.05"} in book[
        "prices"
    ]
    again = await operator.post("/price-books", json=book)
    assert again.status_code == 201, again.text
    assert again.json() == {**book, "version": 2}
    assert (await customer.get("/prices")).json() == again.json()


async def test_a_later_book_can_be_looked_at(customer: httpx.AsyncClient, operator: httpx.AsyncClient) -> None:
    body = {"currency": "USD", "effective_from": "2026-03-01T00:00:00+01:00", "prices": [{**ROW, "model": "smol"}]}
    made = (await operator.post("/price-books", json=body)).json()
    assert made["effective_from"] == "2026-02-28T23:00:00Z"
    assert (await customer.get("/prices")).json()["version"] == 1
    assert (await customer.get("/prices", params={"at": "2026-03-01T00:00:00Z"})).json() == made


async def test_customers_do_not_publish(customer: httpx.AsyncClient) -> None:
    answer = await customer.post("/price-books", json={"currency": "USD", "prices": [ROW]})
    assert answer.status_code == 403


BAD_ROWS = [
    ({**ROW, "unit_price": 0.05}, "prices.0.unit_price"),
    ({**ROW, "unit_price": "1e-3"}, "prices.0.unit_price"),
    ({**ROW, "unit_price": "-1"}, "prices.0.unit_price"),
    ({**ROW, "unit_quantity": 0}, "prices.0.unit_quantity"),
    ({**ROW, "unit_quantity": 7, "unit_price": "1"}, "prices.0.unit_price"),
    ({**ROW, "meter": "smiles"}, "prices.0.meter"),
    ({**ROW, "charge_by": "time"}, "prices.0.charge_by"),
    ({**ROW, "charge_by": "luck"}, "prices.0.charge_by"),
    ({**ROW, "modle": "smol"}, "prices.0.modle"),
    ({**ROW, "tiers": [{"from": 0}]}, "prices.0.tiers"),
]


async def test_a_bad_row_is_refused_by_its_place(operator: httpx.AsyncClient) -> None:
    for row, path in BAD_ROWS:
        answer = await operator.post("/price-books", json={"currency": "USD", "prices": [row]})
        assert answer.status_code == 422, (row, answer.text)
        assert path in [error["path"].removeprefix("body.") for error in answer.json()["errors"]], row


async def test_an_empty_book_and_one_of_the_past_are_refused(operator: httpx.AsyncClient) -> None:
    assert (await operator.post("/price-books", json={"currency": "USD", "prices": []})).status_code == 422
    body = {"currency": "USD", "effective_from": "2025-01-01T00:00:00Z", "prices": [ROW]}
    assert (await operator.post("/price-books", json=body)).json()["code"] == "in_the_past"
