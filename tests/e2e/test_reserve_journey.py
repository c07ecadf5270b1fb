"""Selling a reserved cluster, typed: fleet, availability, quote, hold, credit, confirm, extend, shrink, events."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import Cloud

pytestmark = pytest.mark.cloud

SITE, SKU, LEAVES = "journey-site", "journey-h100.8x", ("journey-a-1", "journey-a-2")
ORGANIZATION = "journey"
NODES, DAYS = 16, 14
FLEET = f"""
sites: [{{name: {SITE}, country: NO, pue: 1.1, power_cap_kw: 1000}}]
halls: [{{name: journey-a, site: {SITE}}}]
leaves:
  - {{name: {LEAVES[0]}, hall: journey-a, spares: 1}}
  - {{name: {LEAVES[1]}, hall: journey-a, spares: 1}}
skus:
  - {{name: {SKU}, accelerator: H100-SXM, accelerators_per_node: 8, cpu: 192, memory: 2TiB, tdp_w: 10200, idle_w: 2300}}
nodes:
  - {{hostname: "{LEAVES[0]}-[01-32]", sku: {SKU}, leaf: {LEAVES[0]}}}
  - {{hostname: "{LEAVES[1]}-[01-32]", sku: {SKU}, leaf: {LEAVES[1]}}}
"""
NOTHING = "sites: []\n"


@pytest.fixture(scope="module")
def fleet(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """64 nodes in two leaves, declared as operators do; taken away again, so that other tests have what they had."""
    file = tmp_path_factory.mktemp("journey") / "fleet.yaml"
    file.write_text(FLEET)
    planned = _json(cloud, "fleet", "plan", str(file))
    assert (planned["applied"], planned["counts"]["add"]) == (False, 1 + 1 + 2 + 1 + 64)
    applied = cloud.cli("fleet", "apply", str(file), "--yes")
    assert applied.returncode == 0, applied.stderr
    assert "nothing to change" in cloud.cli("fleet", "apply", str(file), "--yes").stderr
    yield
    file.write_text(NOTHING)
    removed = cloud.cli("fleet", "apply", str(file), "--prune", "--yes")
    assert removed.returncode == 0, removed.stderr


@pytest.fixture(scope="module")
def customer(cloud: Cloud, fleet: None) -> dict[str, str]:
    """Somebody of an organization of their own, by the environment that their `skerry` runs in."""
    assert cloud.cli("organizations", "create", ORGANIZATION).returncode == 0
    made = cloud.cli("projects", "create", "training", "--organization", ORGANIZATION)
    assert made.returncode == 0, made.stderr
    scopes = ("--scope", "read", "--scope", "write", "--scope", "billing")
    key = _json(cloud, "keys", "create", "--name", "journey", *scopes, "--project", f"{ORGANIZATION}/training")
    return {"SKERRY_API_KEY": key["key"], "SKERRY_URL": cloud.url}


def test_a_cluster_is_quoted_held_bought_changed_and_given_up(cloud: Cloud, customer: dict[str, str]) -> None:
    def ask(*words: str) -> dict[str, Any]:
        return _json(cloud, *words, **customer)

    start = (datetime.now(UTC) + timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert _free(ask("availability", "--sku", SKU)) == {62}, "64 nodes, and a spare in each leaf"
    size = ("--sku", SKU, "--nodes", str(NODES), "--for", f"{DAYS}d")
    quoted = ask("quote", *size, "--scope", "leaf", "--required", "--from", start.isoformat())
    offer = quoted["offers"][0]
    [leg] = offer["legs"]
    assert (leg["nodes"], leg["leaf"] in LEAVES) == (NODES, True)
    total = Decimal(offer["price"]["total"])
    assert total == Decimal(offer["price"]["hourly"]) * DAYS * 24 > 0
    assert sum(Decimal(line["amount"]) for line in offer["price"]["lines"]) == total

    held = cloud.cli("reserve", offer["id"], "--name", "run-7", "--hold", **customer)
    assert held.returncode == 0, held.stderr
    reservation = held.stdout.strip()
    assert ask("reservations", "show", "run-7")["status"] == "held"
    days = ("--from", start.isoformat(), "--to", (start + timedelta(days=DAYS)).isoformat())
    assert _free(ask("availability", "--sku", SKU, *days)) == {62 - NODES}
    taken = cloud.cli("reserve", offer["id"], "--hold", **customer)
    assert (taken.returncode, "off_" in taken.stderr) == (1, True), "an offer is sold once, and there are fresh ones"

    refused = cloud.cli("reservations", "confirm", reservation, "--yes", **customer)
    assert (refused.returncode, "credit" in refused.stderr) == (1, True)
    raised = cloud.cli("contracts", "create", ORGANIZATION, "--name", "credit", "--credit", "1000000")
    assert raised.returncode == 0, raised.stderr
    assert ask("reservations", "confirm", reservation, "--yes")["status"] == "confirmed"

    longer = cloud.cli("reservations", "extend", reservation, "--by", "7d", "--yes", **customer)
    assert longer.returncode == 0, longer.stderr
    assert "to pay more" in longer.stderr
    after = ask("reservations", "show", reservation)
    assert datetime.fromisoformat(after["end"]) == start + timedelta(days=DAYS + 7)
    assert Decimal(after["price"]["total"]) == total / DAYS * (DAYS + 7)

    smaller = ask("reservations", "shrink", reservation, "--nodes", "8", "--yes")
    assert (smaller["nodes"], smaller["node_seconds"]) == (8, 8 * (DAYS + 7) * 86_400)
    assert Decimal(smaller["price"]["total"]) * 2 == Decimal(after["price"]["total"])
    assert _free(ask("availability", "--sku", SKU, *days)) == {62 - 8}

    told = ask("reservations", "events", reservation)["data"]
    assert [event["type"].partition(".")[2] for event in told] == ["held", "confirmed", "changed", "changed"]
    assert [event["data"].get("kind") for event in told[2:]] == ["extend", "shrink"]
    assert ask("reservations", "cancel", reservation, "--yes")["status"] == "cancelled"
    assert _free(ask("availability", "--sku", SKU, *days)) == {62}
    assert ask("charges")["data"] == [], "so long before the start it is free"


def test_what_cannot_be_says_what_can(cloud: Cloud, customer: dict[str, str]) -> None:
    size = ("--for", "1d", "--sku")
    for words, told in (
        (("--nodes", "32", "--scope", "leaf", "--required", *size, SKU), "31"),
        (("--nodes", "1", *size, "journey-h100"), SKU),
        (("--nodes", "1", "--from", "2020-01-01", *size, SKU), "has passed"),
    ):
        refused = cloud.cli("quote", *words, **customer)
        assert (refused.returncode, told in refused.stderr) == (1, True), refused.stderr


def test_what_is_sold_is_not_removed_from_the_fleet(cloud: Cloud, customer: dict[str, str], tmp_path: Path) -> None:
    quoted = _json(cloud, "quote", "--sku", SKU, "--nodes", "20", "--for", "1d", "--after", "10d", **customer)
    bought = cloud.cli("reserve", quoted["offers"][0]["id"], "--yes", **customer)
    assert bought.returncode == 0, bought.stderr
    reservation = bought.stdout.strip()
    file = tmp_path / "fleet.yaml"
    file.write_text(NOTHING)
    refused = cloud.cli("fleet", "apply", str(file), "--prune", "--yes")
    assert (refused.returncode, reservation in refused.stdout + refused.stderr) == (1, True)
    cancelled = cloud.cli("reservations", "cancel", reservation, "--yes", **customer)
    assert cancelled.returncode == 0, cancelled.stderr


def _free(found: dict[str, Any]) -> set[int]:
    """Counts of free nodes, over all of the schedule."""
    [site] = found["data"]
    return {part["free_nodes"] for part in site["schedule"]}


def _json(cloud: Cloud, *arguments: str, **environment: str) -> dict[str, Any]:
    done = cloud.cli(*arguments, "--json", **environment)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found
