"""Tables for people, JSON for machines."""

import json

import pytest

from tests.cli.fake_cloud import KEY, MODEL, listed

ENDPOINT = {
    "id": "ep_1",
    "name": "tiny",
    "model": "tiny",
    "kind": "shared",
    "status": "degraded",
    "status_reason": {"code": "replica_lost", "message": "one of two replicas is starting"},
    "replicas": [{"id": "rep_1", "status": "ready"}, {"id": "rep_2", "status": "starting"}],
}
EVENT = {
    "id": "aud_1",
    "at": "2026-01-02T03:04:05Z",
    "key_id": "key_1",
    "key_name": "demo",
    "action": "api_key.create",
    "resource": "key_2",
    "outcome": "done",
    "origin": "127.0.0.1",
}
PROJECT = {"id": "proj_1", "name": "default", "organization": "demo", "jurisdictions": ["NO", "EU"]}
MEMBER = {"id": "mem_1", "email": "a@b.no", "role": "owner", "created_at": "2026-01-02T03:04:05Z"}
BUDGET = {
    "id": "bud_1",
    "target": {"key": "key_1"},
    "limit": {"amount": "10", "currency": "EUR"},
    "window": "month",
    "spent": {"amount": "2.50", "currency": "EUR"},
    "alert_at": [0.8],
}
BOOK = {
    "version": 3,
    "currency": "EUR",
    "prices": [{"meter": "tokens_prompt", "unit_quantity": 1000000, "unit_price": "0.10", "model": "tiny"}],
}

LISTS = [
    (
        ("models", "list"),
        "/api/v1/models",
        MODEL,
        "name engine context status source",
        "tiny llamacpp 8,192 ready path",
    ),
    (
        ("endpoints", "list"),
        "/api/v1/endpoints",
        ENDPOINT,
        "name model kind status replicas reason",
        "degraded 1/2 one of",
    ),
    (("keys", "list"), "/api/v1/api-keys", KEY, "id name scopes budget status", f"{KEY['id']} ci inference"),
    (
        ("projects", "list"),
        "/api/v1/projects",
        PROJECT,
        "id name organization jurisdictions",
        "proj_1 default demo NO, EU",
    ),
    (("members", "list"), "/api/v1/members", MEMBER, "id email role since", "mem_1 a@b.no owner 2026-01-02 03:04:05"),
    (("audit", "list"), "/api/v1/audit-events", EVENT, "at who what outcome from", "demo api_key.create key_2 done"),
    (("budgets", "list"), "/api/v1/budgets", BUDGET, "target window limit spent", "key key_1 month 10 EUR 2.5 EUR 80%"),
]


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize(("command", "path", "item", "header", "row"), LISTS)
def test_a_list_is_a_table(run, cloud, command, path, item, header, row):
    cloud.answers[f"GET {path}"] = listed(item)
    result = run(*command)
    first, second = result.stdout.splitlines()
    assert all(title in first for title in header.split())
    assert row in words(second)
    assert (result.stderr, result.exit_code) == ("", 0)


@pytest.mark.parametrize(("command", "path", "item", "header", "row"), LISTS)
def test_a_list_is_json_with_the_servers_own_fields(run, cloud, command, path, item, header, row):
    more = {**item, "something_new": {"x": 1}}
    cloud.answers[f"GET {path}"] = listed(more)
    result = run(*command, "--json")
    assert json.loads(result.stdout) == {"data": [more], "has_more": False, "next_cursor": None}
    assert result.stderr == ""


@pytest.mark.parametrize(("command", "path", "item", "header", "row"), LISTS)
def test_an_empty_list_says_so_on_stderr(run, cloud, command, path, item, header, row):
    cloud.answers[f"GET {path}"] = listed()
    result = run(*command)
    assert (result.stdout, result.exit_code) == ("", 0)
    assert result.stderr.startswith("There are no ")


def test_all_pages_are_shown(run, cloud):
    cloud.answers["GET /api/v1/api-keys"] = lambda asked: (
        listed({**KEY, "id": "key_2"}) if asked.query.get("after") == "c1" else listed(KEY, cursor="c1")
    )
    assert len(run("keys", "list").stdout.splitlines()) == 3
    assert len(json.loads(run("keys", "list", "--json").stdout)["data"]) == 2


def test_audit_stops_at_its_limit_and_says_that_there_is_more(run, cloud):
    cloud.answers["GET /api/v1/audit-events"] = listed(EVENT, {**EVENT, "id": "aud_2"})
    result = run("audit", "list", "--limit", "1")
    assert len(result.stdout.splitlines()) == 2
    assert "--limit" in result.stderr
    assert json.loads(run("audit", "list", "--limit", "1", "--json").stdout)["has_more"] is True


def test_ids_are_whole_where_there_is_no_terminal(run, cloud):
    long = "key_" + "x" * 300
    cloud.answers["GET /api/v1/api-keys"] = listed({**KEY, "id": long, "name": "y" * 300})
    assert long in run("keys", "list").stdout
    assert "y" * 300 in run("keys", "list").stdout


def test_what_a_server_sends_cannot_drive_the_terminal(run, cloud):
    cloud.answers["GET /api/v1/models"] = listed({**MODEL, "name": "\x1b[31mred[bold]"})
    assert "\x1b" not in run("models", "list").stdout
    assert "[bold]" in run("models", "list").stdout


def test_show_gives_the_fields(run, cloud):
    cloud.answers["GET /api/v1/endpoints/tiny"] = (200, ENDPOINT)
    result = run("endpoints", "show", "tiny")
    assert "reason" in result.stdout
    assert "replica  rep_2 starting" in result.stdout
    assert json.loads(run("endpoints", "show", "tiny", "--json").stdout) == ENDPOINT


def test_prices_show_the_book(run, cloud):
    cloud.answers["GET /api/v1/prices"] = (200, BOOK)
    assert words(run("prices").stdout) == "meter for EUR for each tokens_prompt tiny 0.1 1,000,000"
    assert json.loads(run("prices", "--json").stdout) == BOOK


def row(meter, quantity, amount, **more):
    money = {"amount": amount, "currency": "EUR"}
    window = {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}
    costs = {"list_cost": money, "contracted_cost": money, "billed_cost": money, "energy_mwh": 0, "carbon_mg": 0}
    return {**window, "meter": meter, "quantity": quantity, **costs, **more}


def test_costs_align_and_sum_exactly(run, cloud):
    cloud.answers["GET /api/v1/costs"] = listed(
        row("tokens_prompt", 1234567, "0.1234567", model="tiny"),
        row("tokens_completion", 89, "12", model="tiny"),
        row("requests", 3, "0.0000003", model=None),
    )
    result = run("costs", "--group-by", "model", "--from", "2026-01-01", "--to", "2026-02-01")
    assert result.stdout == (
        "model  meter               quantity          billed\n"
        "tiny   tokens_prompt      1,234,567   0.1234567 EUR\n"
        "tiny   tokens_completion         89  12.0000000 EUR\n"
        "–      requests                   3   0.0000003 EUR\n"
        "\n"
        "total                                12.1234570 EUR\n"
    ).replace("\n\n", "\n")
    [asked] = cloud.of("/api/v1/costs")
    assert asked.query == {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "group_by": "model"}


def test_costs_show_a_contract_energy_and_each_currency(run, cloud):
    usd = {"amount": "1", "currency": "USD"}
    cloud.answers["GET /api/v1/costs"] = listed(
        row("tokens_prompt", 1, "2", contracted_cost={"amount": "1.5", "currency": "EUR"}, energy_mwh=2_500_000),
        row("requests", 1, "0", list_cost=usd, contracted_cost=usd, billed_cost=usd),
    )
    lines = run("costs").stdout.splitlines()
    assert words(lines[0]) == "meter quantity list contracted billed energy"
    assert "2.500 kWh" in lines[1]
    assert [words(line) for line in lines[-2:]] == [
        "total 2.00 EUR 1.50 EUR 2.00 EUR 2.500 kWh",
        "total 1.00 USD 1.00 USD 1.00 USD 0.000 Wh",
    ]


def test_usage_by_bucket(run, cloud):
    cloud.answers["GET /api/v1/usage"] = listed(row("requests", 3, "0"))
    result = run("usage", "--bucket", "day", "--group-by", "meter, tag:team")
    assert words(result.stdout) == "day tag:team meter quantity 2026-01-01 – requests 3"
    assert cloud.of("/api/v1/usage")[0].query == {"bucket": "day", "group_by": "meter,tag:team"}


@pytest.mark.parametrize("command", ["usage", "costs"])
def test_nothing_used_says_what_to_do(run, cloud, command):
    cloud.answers[f"GET /api/v1/{command}"] = listed()
    result = run(command, "--from", "7d")
    assert "skerry chat" in result.stderr
    assert json.loads(run(command, "--json").stdout)["data"] == []


def test_the_audit_chain_holds_or_the_command_fails(run, cloud):
    cloud.answers["GET /api/v1/audit-events/verify"] = (200, {"intact": True, "events": 12, "first_break": None})
    assert "12 events" in run("audit", "verify").stderr
    broken = {"intact": False, "events": 4, "first_break": {"seq": 5, "event_id": "aud_5", "reason": "hash differs"}}
    cloud.answers["GET /api/v1/audit-events/verify"] = (200, broken)
    result = run("audit", "verify", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, broken)
    assert "breaks at event 5: hash differs" in result.stderr


def test_whoami(run, cloud):
    result = run("whoami")
    assert "demo/default proj_1" in result.stdout
    assert "project_key" in result.stdout
    assert json.loads(run("whoami", "--json").stdout)["key_id"] == "key_1"
