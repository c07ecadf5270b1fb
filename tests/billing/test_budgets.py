"""Budgets over HTTP: who may set which limit on whom, and what they show."""

from datetime import timedelta

import httpx

from skerry.billing.model import AccountKind, Grant
from skerry.billing.service import Billing
from skerry.identity.model import KeyLimits, KeyTerms, Scope
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import new_uuid7
from skerry.kernel.money import Money, parse_amount
from skerry.kernel.paging import encode_cursor
from skerry.metering.model import Dims, Meter, UsageFact
from skerry.metering.service import Metering
from tests.billing.conftest import People


def _money(amount: str, currency: str = "USD") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


def _budget(amount: str = "10", window: str = "month", **target: str) -> dict[str, object]:
    return {"target": target or {"project": "default"}, "limit": _money(amount), "window": window}


async def _made(client: httpx.AsyncClient, **budget: object) -> dict:
    answer = await client.post("/budgets", json={**_budget(), **budget})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_new_budget_shows_its_limit_and_that_nothing_is_spent(customer: httpx.AsyncClient) -> None:
    made = await _made(customer, alert_at=[0.8, 0.5])
    assert made == {
        "id": made["id"],
        "kind": "budget",
        "target": {"project": "default"},
        "limit": _money("10"),
        "window": "month",
        "alert_at": [0.5, 0.8],
        "spent": _money("0"),
        "pending": _money("0"),
        "remaining": _money("10"),
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-02-01T00:00:00Z",
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert (await customer.get(f"/budgets/{made['id']}")).json() == made


async def test_the_list_has_the_organization_s_credit_limit(customer: httpx.AsyncClient) -> None:
    made = await _made(customer)
    listed = (await customer.get("/budgets")).json()
    assert {(row["kind"], row["limit"]["amount"]) for row in listed["data"]} == {
        ("budget", "10"),
        ("credit_limit", "1000"),
    }
    page = (await customer.get("/budgets?limit=1")).json()
    rest = (await customer.get("/budgets", params={"after": page["next_cursor"]})).json()
    assert page["has_more"] and not rest["has_more"]
    assert {made["id"]} < {row["id"] for row in page["data"] + rest["data"]}


async def test_a_cursor_of_another_list_is_refused(customer: httpx.AsyncClient) -> None:
    for key in ((), ("a", "b"), ("\ud800",)):
        answer = await customer.get("/budgets", params={"after": encode_cursor(key)})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), key


async def test_spent_and_pending_are_what_gateways_hold_and_booked(
    customer: httpx.AsyncClient, operator: httpx.AsyncClient, billing: Billing, clock: FakeClock
) -> None:
    made = await _made(customer)
    async with billing.db.transaction() as tx:
        lease = await billing.balances.acquire_lease(tx, made["id"], "j1", 1, 2 * 10**9, timedelta(seconds=60))
        assert isinstance(lease, Grant)
        await billing.balances.settle(tx, {lease.lease: 500_000_000})
    now = (await customer.get(f"/budgets/{made['id']}")).json()
    assert [now[name]["amount"] for name in ("spent", "pending", "remaining")] == ["0.5", "1.5", "8"]
    (pending,) = (await customer.get(f"/budgets/{made['id']}/leases")).json()["data"]
    assert (pending["id"], pending["amount"]) == (lease.lease, _money("2"))

    path = f"/budgets/{made['id']}/leases/{lease.lease}/release"
    assert (await customer.post(path)).status_code == 403
    assert (await operator.post(path)).json()["code"] == "lease_still_live"
    clock.advance(seconds=61)
    assert (await operator.post(path)).json()["pending"] == _money("0")


async def test_a_budget_made_in_the_middle_of_its_period_counts_what_was_spent_before(
    customer: httpx.AsyncClient, billing: Billing, metering: Metering, people: People, clock: FakeClock
) -> None:
    clock.advance(days=1, hours=5)
    other = Dims.of({"model": "smol", "charge_by": "tokens", "key": "key_other"})
    mine = Dims.of({"model": "smol", "charge_by": "tokens", "key": people.customer.key_id})
    ends = [(mine, clock.now() - timedelta(days=1)), (mine, clock.now()), (other, clock.now())]
    facts = [
        UsageFact(new_uuid7(), Meter.TOKENS_PROMPT, 20_000_001, people.customer.project_id, "ep", end, end, dims)
        for dims, end in ends
    ]
    async with metering.db.transaction() as tx:
        await metering.intake(tx, facts)
    await metering.roll_up_once()
    spent = {}
    for window in ("day", "month", "total"):
        spent[window] = (await _made(customer, window=window))["spent"]["amount"]
    assert spent == {"day": "2.0000001", "month": "3.00000015", "total": "0"}
    made = await _made(customer, target={"key": people.customer.key_id})
    assert (made["spent"], made["remaining"]) == (_money("2.0000001"), _money("7.9999999"))


async def test_a_changed_limit_takes_effect_at_once(customer: httpx.AsyncClient, billing: Billing) -> None:
    made = await _made(customer, alert_at=[0.5])
    changed = await customer.patch(f"/budgets/{made['id']}", json={"limit": _money("0.000000001")})
    assert (changed.status_code, changed.json()["limit"]["amount"]) == (200, "0.000000001")
    assert changed.json()["alert_at"] == [0.5]
    async with billing.db.transaction() as tx:
        refused = await billing.balances.acquire_lease(tx, made["id"], "j1", 2, 2, timedelta(seconds=60))
    assert not isinstance(refused, Grant)


async def test_a_deleted_budget_is_gone(customer: httpx.AsyncClient) -> None:
    made = await _made(customer)
    assert (await customer.delete(f"/budgets/{made['id']}")).status_code == 204
    assert (await customer.get(f"/budgets/{made['id']}")).json()["code"] == "unknown_budget"
    assert (await customer.delete(f"/budgets/{made['id']}")).status_code == 404


async def test_changes_are_in_the_timeline(customer: httpx.AsyncClient, billing: Billing, people: People) -> None:
    made = await _made(customer)
    await customer.patch(f"/budgets/{made['id']}", json={"limit": _money("3")})
    await customer.delete(f"/budgets/{made['id']}")
    async with billing.db.reading() as tx:
        events = await billing.balances.events.list(tx, people.customer.project_id, made["id"])
    assert [event.type for event in events.data] == ["budget.created", "budget.updated", "budget.deleted"]


IMPOSSIBLE: list[tuple[dict, int, str | None]] = [
    ({"target": {"tag": "team"}}, 422, "not_supported"),
    ({"target": {"planet": "x"}}, 422, "bad_target"),
    ({"target": {"project": "unknown"}}, 404, "unknown_project"),
    ({"target": {"key": "key_unknown"}}, 404, "not_found"),
    ({"target": {"organization": "operator"}}, 404, "unknown_organization"),
    ({"limit": {"amount": "1", "currency": "EUR"}}, 422, "other_currency"),
    ({"limit": {"amount": "0.0000000001", "currency": "USD"}}, 422, "out_of_range"),
    ({"limit": {"amount": "-1", "currency": "USD"}}, 422, None),
    ({"limit": {"amount": 1.5, "currency": "USD"}}, 422, None),
    ({"window": "year"}, 422, None),
    ({"alert_at": [80]}, 422, "out_of_range"),
    ({"target": {}}, 422, None),
    ({"colour": "red"}, 422, None),
]


async def test_what_cannot_be_a_budget_is_refused(customer: httpx.AsyncClient) -> None:
    for change, status, code in IMPOSSIBLE:
        answer = await customer.post("/budgets", json={**_budget(), **change})
        assert answer.status_code == status, (change, answer.text)
        assert code is None or answer.json()["code"] == code, change


async def test_a_key_s_own_limit_is_changed_at_the_key(
    customer: httpx.AsyncClient, identity: Identity, people: People
) -> None:
    limits = KeyLimits(budget=Money(parse_amount("2.5"), "USD"))
    terms = KeyTerms(frozenset({Scope.INFERENCE}), limits=limits)
    minted = await identity.create_key(people.customer, "limited", terms)
    listed = (await customer.get("/budgets")).json()["data"]
    (own,) = [row for row in listed if row["kind"] == "key_limit"]
    assert (own["target"], own["limit"], own["window"]) == ({"key": minted.key.id}, _money("2.5"), "total")
    assert own["period_end"] is None
    for answer in (
        await customer.patch(f"/budgets/{own['id']}", json={"limit": _money("9")}),
        await customer.delete(f"/budgets/{own['id']}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "not_a_budget")

    changes = {"limits": KeyLimits(budget=Money(parse_amount("7"), "USD"))}
    await identity.keys.update(people.customer, minted.key.id, None, changes)
    assert (await customer.get(f"/budgets/{own['id']}")).json()["limit"] == _money("7")


async def test_a_credit_limit_is_the_operator_s_to_change(
    customer: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    listed = (await customer.get("/budgets")).json()["data"]
    (credit,) = [row for row in listed if row["kind"] == AccountKind.CREDIT_LIMIT]
    path, more = f"/budgets/{credit['id']}", {"limit": _money("5000")}
    assert (await customer.patch(path, json=more)).status_code == 403
    assert (await operator.patch(path, json=more)).json()["limit"] == _money("5000")
    assert (await operator.delete(path)).json()["code"] == "not_a_budget"


async def test_a_project_sees_only_its_own(
    customer: httpx.AsyncClient, operator: httpx.AsyncClient, billing: Billing
) -> None:
    answer = await operator.post("/budgets?project=operator/platform", json=_budget(project="operator/platform"))
    theirs = answer.json()["id"]
    assert (await customer.get(f"/budgets/{theirs}")).status_code == 404
    assert (await customer.patch(f"/budgets/{theirs}", json={"limit": _money("1")})).status_code == 404
    assert (await customer.delete(f"/budgets/{theirs}")).status_code == 404
    assert theirs not in {row["id"] for row in (await customer.get("/budgets")).json()["data"]}
    assert (await operator.get(f"/budgets/{theirs}?project=operator/platform")).status_code == 200


async def test_an_organization_s_budget_bears_all_its_projects(
    customer: httpx.AsyncClient, billing: Billing, people: People
) -> None:
    made = await _made(customer, target={"organization": "demo"})
    assert made["target"] == {"organization": people.customer.organization_id}
    async with billing.db.transaction() as tx:
        who = people.customer
        bearing = await billing.balances.accounts_for(tx, who.organization_id, who.project_id, who.key_id)
    assert made["id"] in {account.id for account in bearing}
