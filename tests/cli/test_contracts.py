"""Contracts, price books and charges on the command line; and that the examples are what the server takes."""

import json
from pathlib import Path

import pytest

from skerry.billing.rules import books
from skerry.billing.rules import contracts as rules
from skerry.billing.schemas.contracts import ContractIn
from skerry.billing.schemas.prices import PriceBookIn
from skerry.fleet.catalogue import CATALOGUE
from skerry.kernel.clock import FakeClock
from skerry.metering.model import Meter
from tests.cli.fake_cloud import OPERATOR_KEY, PROJECT_KEY, listed

EXAMPLES = Path(__file__).parents[2] / "examples" / "prices"
ROW = {"meter": "node_seconds_reserved", "line": "hosting", "unit_quantity": 3600, "unit_price": "0.9"}
CONTRACT = {
    "id": "ctr_1",
    "organization": "org_1",
    "name": "frame",
    "currency": "EUR",
    "starts_at": "2026-01-02T00:00:00Z",
    "ends_at": None,
    "prices": [ROW],
    "cancellation": {"free_days_before": 30, "steps": [{"days_before": 0, "share": 0.5}]},
    "credit_limit": {"amount": "5000", "currency": "EUR"},
}
CHARGE = {
    "id": "chg_1",
    "kind": "cancellation_fee",
    "resource": "res_1",
    "amount": {"amount": "12.50", "currency": "EUR"},
    "at": "2026-01-02T00:00:00Z",
    "reason": "cancellation of res_1",
}


def test_contracts_are_listed_and_shown(run, cloud):
    cloud.answers |= {
        "GET /api/v1/contracts": listed(CONTRACT),
        "GET /api/v1/contracts/ctr_1": (200, CONTRACT),
    }
    shown = run("contracts", "list")
    assert (shown.exit_code, cloud.asked[-1].key) == (0, PROJECT_KEY)
    assert all(word in shown.stdout for word in ("ctr_1", "frame", "5000 EUR"))
    run("contracts", "list", "--organization", "demo")
    assert (cloud.asked[-1].query, cloud.asked[-1].key) == ({"organization": "demo"}, OPERATOR_KEY)
    one = run("contracts", "show", "ctr_1").stdout
    assert all(word in one for word in ("free until 30 days before", "50% from 0 days before", "hosting", "0.9 EUR"))


def test_a_contract_is_made_from_a_file(run, cloud, tmp_path):
    cloud.answers |= {"POST /api/v1/contracts": (201, CONTRACT)}
    file = tmp_path / "contract.json"
    file.write_text(json.dumps({"name": "frame", "prices": [ROW], "starts_at": "2099-01-01T00:00:00Z"}))
    made = run("contracts", "create", "demo", str(file), "--to", "2100-01-01")
    assert (made.exit_code, made.stdout.strip() or made.stderr.split()[-1]) == (0, "ctr_1")
    assert cloud.asked[-1].key == OPERATOR_KEY
    assert cloud.asked[-1].body == {
        "organization": "demo",
        "name": "frame",
        "prices": [ROW],
        "starts_at": "2099-01-01T00:00:00Z",
        "ends_at": "2100-01-01T00:00:00Z",
    }


def test_more_credit_needs_no_file(run, cloud):
    cloud.answers |= {
        "POST /api/v1/contracts": (201, CONTRACT),
        "GET /api/v1/prices": (200, {"version": 1, "currency": "EUR"}),
    }
    assert run("contracts", "create", "demo", "--name", "credit", "--credit", "5000").exit_code == 0
    limit = {"amount": "5000", "currency": "EUR"}
    assert cloud.asked[-1].body == {"organization": "demo", "name": "credit", "prices": [], "credit_limit": limit}
    assert run("contracts", "create", "demo", "--name", "credit").exit_code == 2, "it would say nothing"


@pytest.mark.parametrize(
    ("text", "word"), [("{", "not JSON"), ("[]", "object"), ('{"price": []}', "'price'"), ("{}", "has a name")]
)
def test_a_file_that_makes_no_sense_is_refused_before_anything_is_asked(run, cloud, tmp_path, text, word):
    file = tmp_path / "contract.json"
    file.write_text(text)
    result = run("contracts", "create", "demo", str(file))
    assert (result.exit_code, cloud.asked) == (2, [])
    assert word in result.stderr


def test_to_end_a_contract_yes_must_be_said(run, cloud):
    cloud.answers |= {"DELETE /api/v1/contracts/ctr_1": (200, CONTRACT)}
    assert run("contracts", "end", "ctr_1").exit_code == 2
    assert run("contracts", "end", "ctr_1", "--yes").exit_code == 0


def test_prices_are_published_from_a_file(run, cloud, tmp_path):
    book = {"version": 4, "currency": "EUR", "effective_from": "2020-01-01T00:00:00Z", "prices": [ROW]}
    cloud.answers |= {"POST /api/v1/price-books": (201, book)}
    file = tmp_path / "book.json"
    file.write_text(json.dumps(book))
    assert run("price-books", "publish", str(file)).exit_code == 2, "--yes must be said"
    assert "version 4" in run("price-books", "publish", str(file), "--yes").stderr
    assert cloud.asked[-1].body == {"currency": "EUR", "prices": [ROW]}, "in force from now on"
    run("price-books", "publish", str(file), "--yes", "--from", "2099-01-01")
    assert cloud.asked[-1].body["effective_from"] == "2099-01-01T00:00:00Z"
    file.write_text("{}")
    assert run("price-books", "publish", str(file), "--yes").exit_code == 2


def test_charges_are_listed(run, cloud):
    cloud.answers |= {"GET /api/v1/charges": listed(CHARGE)}
    shown = run("charges", "--resource", "res_1").stdout
    assert all(word in shown for word in ("chg_1", "cancellation_fee", "res_1", "12.5 EUR"))
    assert cloud.asked[-1].query == {"resource": "res_1"}


def test_the_example_price_book_is_taken_and_prices_the_whole_catalogue():
    book = PriceBookIn.model_validate_json((EXAMPLES / "accelerators.json").read_text())
    rows = [row.to_price() for row in book.prices]
    books.require_valid(rows, "USD", None)
    named = {row.sku for row in rows if row.meter is Meter.NODE_SECONDS_RESERVED}
    assert {sku.name for sku in CATALOGUE} <= named


def test_the_example_contract_is_taken():
    body = json.loads((EXAMPLES / "contract.json").read_text())
    contract = ContractIn.model_validate({"organization": "demo", **body})
    assert contract.cancellation is not None
    rows = [row.to_price() for row in contract.prices]
    rules.require_valid(rows, contract.cancellation.to_terms(), FakeClock().now(), None)
