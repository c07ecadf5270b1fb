"""`skerry availability quote reserve reservations`: free nodes over time, and nothing is bought or changed unasked."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from skerry.cli.capacityview import event_words, lasting, legs_text
from skerry.cli.freechart import Chart, mark
from skerry.client.answers.base import reader
from skerry.client.answers.capacity import Availability, Leg
from tests.cli.fake_cloud import PROJECT_KEY, listed, problem
from tests.cli.terminal import Terminal

START = datetime(2027, 1, 4, tzinfo=UTC)
LINES = [
    {"line": "compute", "node_hour": "18", "amount": "96768"},
    {"line": "hosting", "node_hour": "1.08", "amount": "5806.08"},
]
PRICE = {"total": "102574.08", "hourly": "305.28", "currency": "EUR", "lines": LINES}
ENERGY = {"kwh": 63060.48, "gco2e": 11098644}
LEG = {
    "leaf": "no-a-1",
    "hall": "no-a",
    "site": "no-x",
    "nodes": 16,
    "start": "2027-01-04T00:00:00Z",
    "end": "2027-01-18T00:00:00Z",
}
OFFER = {
    "id": "off_1",
    "kind": "earliest",
    "start": LEG["start"],
    "end": LEG["end"],
    "site": "no-x",
    "legs": [LEG],
    "fragmentation": 0.5,
    "price": PRICE,
    "energy": ENERGY,
    "expires_at": "2027-01-01T00:05:00Z",
}
QUOTE = {
    "id": "qt_1",
    "sku": "s",
    "nodes": 16,
    "capacity_class": "reserved",
    "offers": [OFFER],
    "no_offer_reason": None,
}
FULL = {
    **QUOTE,
    "offers": [],
    "no_offer_reason": {
        "code": "no_capacity",
        "message": "only 4 are free then",
        "earliest": "2027-02-01T00:00:00Z",
        "nodes": 4,
    },
}
ESTIMATE = {**OFFER, "offer_id": "off_1"}
HELD = {
    "id": "res_1",
    "name": "training",
    "status": "held",
    "status_reason": {"code": "on_hold", "message": "It is kept until then."},
    "actions": {"confirm": {"available": True, "why_not": None}, "extend": {"available": False, "why_not": "held"}},
    "sku": "s",
    "nodes": 16,
    "start": LEG["start"],
    "end": LEG["end"],
    "legs": [LEG],
    "price": PRICE,
    "energy": ENERGY,
    "expires_at": "2027-01-01T00:15:00Z",
}
BOUGHT = {**HELD, "status": "confirmed", "expires_at": None}
NOTHING = {"amount": "0", "currency": "EUR"}
CHANGE = {
    "id": "cq_1",
    "reservation": "res_1",
    "kind": "shrink",
    "charge": {"amount": "100", "currency": "EUR"},
    "refund": {"amount": "50000", "currency": "EUR"},
    "fee": {"amount": "100", "currency": "EUR"},
    "new_legs": [{**LEG, "nodes": 8}],
    "price": {**PRICE, "total": "51287.04"},
    "energy": ENERGY,
}


@pytest.fixture
def market(cloud):
    """Everything works: `res_1` is bought."""

    def reserve(asked):
        if asked.query.get("dry_run"):
            return 200, ESTIMATE
        return 201, BOUGHT if asked.body["confirm"] else HELD

    cloud.answers |= {
        "POST /api/v1/quotes": (201, QUOTE),
        "POST /api/v1/reservations": reserve,
        "GET /api/v1/reservations": listed(BOUGHT),
        "GET /api/v1/reservations/res_1": (200, BOUGHT),
        "POST /api/v1/reservations/res_1/confirm": (200, BOUGHT),
        "DELETE /api/v1/reservations/res_1": (200, {**HELD, "status": "cancelled"}),
        "POST /api/v1/reservations/res_1/change-quotes": (201, CHANGE),
        "POST /api/v1/reservations/res_1/changes": (200, {**BOUGHT, "nodes": 8, "created": []}),
    }
    return cloud


def asked_for(cloud, method, path):
    return [asked for asked in cloud.asked if (asked.method, asked.path) == (method, f"/api/v1/{path}")]


def availability(*parts, nodes=8, end=START + timedelta(days=30)):
    schedule = [{"start": a.isoformat(), "end": b.isoformat(), "free_nodes": free} for a, b, free in parts]
    data = [{"site": "no-x", "sku": "s", "nodes": nodes, "schedule": schedule}]
    times = {"as_of": START.isoformat(), "start": START.isoformat(), "end": end.isoformat()}
    return {**times, "data": data}


class TestAvailability:
    def test_a_mark_shows_the_fewest_free_nodes_of_its_time(self):
        day = timedelta(days=1)
        raw = availability(
            (START, START + 2 * day, 8), (START + 2 * day, START + 3 * day, 0), (START + 3 * day, START + 30 * day, 4)
        )
        found = reader(Availability)(raw)
        chart = Chart.of(found, 40)
        assert (chart.step, chart.cells) == (day, 30)
        assert chart.marks(found.data[0].schedule, 8) == "██·" + "▄" * 27
        assert chart.axis().startswith("04 Jan ")

    @pytest.mark.parametrize(("free", "shown"), [(0, "·"), (1, "▁"), (50, "▄"), (99, "█"), (100, "█")])
    def test_one_free_node_is_not_nothing(self, free, shown):
        assert mark(free, 100) == shown

    @pytest.mark.parametrize("days", [0.01, 1, 30, 365, 1096])
    def test_the_chart_fits_the_width_and_covers_the_window(self, days):
        end = START + timedelta(days=days)
        chart = Chart.of(reader(Availability)(availability(end=end)), 60)
        assert chart.cells <= 60
        assert chart.start <= START
        assert chart.start + chart.cells * chart.step >= end
        assert len(chart.axis()) <= chart.cells

    def test_it_is_drawn(self, run, cloud):
        cloud.answers["GET /api/v1/capacity/availability"] = (200, availability((START, START + timedelta(days=30), 5)))
        shown = run("availability", "--sku", "s", "--from", "2027-01-04", "--to", "2027-02-03")
        assert shown.exit_code == 0, shown.stderr
        assert "no-x" in shown.stdout
        assert "▅▅▅" in shown.stdout
        assert "A mark is" in shown.stderr
        assert cloud.asked[-1].query == {"sku": "s", "from": "2027-01-04T00:00:00Z", "to": "2027-02-03T00:00:00Z"}

    def test_json_is_the_api_s_own(self, run, cloud):
        cloud.answers["GET /api/v1/capacity/availability"] = (200, availability())
        assert json.loads(run("availability", "--json").stdout) == availability()


class TestQuote:
    def test_offers_are_shown_with_price_and_energy(self, run, market):
        shown = run("quote", "--sku", "s", "--nodes", "16", "--for", "14d", "--scope", "leaf", "--site", "no-x,no-y")
        assert shown.exit_code == 0, shown.stderr
        assert all(
            word in shown.stdout for word in ("off_1", "earliest", "14 d", "16 in no-a-1", "102,574.08 EUR", "305.28")
        )
        assert "skerry reserve" in shown.stderr
        assert market.asked[-1].body == {
            "sku": "s",
            "nodes": 16,
            "duration_seconds": 1_209_600,
            "scope": "leaf",
            "sites": ["no-x", "no-y"],
        }

    def test_a_ramp_is_asked_for_by_windows(self, run, market):
        run("quote", "--sku", "s", "--window", "2027-01-01/2027-03-01=64", "--window", "2027-03-01/2027-04-01=128")
        assert market.asked[-1].body == {
            "sku": "s",
            "schedule": [
                {"start": "2027-01-01T00:00:00Z", "end": "2027-03-01T00:00:00Z", "nodes": 64},
                {"start": "2027-03-01T00:00:00Z", "end": "2027-04-01T00:00:00Z", "nodes": 128},
            ],
        }

    def test_without_an_offer_it_fails_and_says_when_there_is_room(self, run, cloud):
        cloud.answers["POST /api/v1/quotes"] = (201, FULL)
        told = run("quote", "--sku", "s", "--nodes", "16", "--for", "14d")
        assert told.exit_code == 1
        assert "Only 4 are free then." in told.stderr
        assert "2027-02-01 00:00:00 UTC" in told.stderr
        as_json = run("quote", "--sku", "s", "--nodes", "16", "--for", "14d", "--json")
        assert (as_json.exit_code, json.loads(as_json.stdout)) == (1, FULL)

    @pytest.mark.parametrize(
        "words",
        [
            ("--nodes", "4"),
            ("--for", "4h"),
            ("--nodes", "4", "--for", "4h", "--to", "2027-01-01"),
            ("--nodes", "4", "--to", "2027-01-01"),
            ("--nodes", "4", "--for", "long"),
            ("--window", "2027-01-01=4"),
            ("--window", "2027-01-01/2027-01-02=many"),
            ("--window", "2027-01-01/2027-01-02=4", "--nodes", "4"),
        ],
    )
    def test_what_makes_no_sense_is_refused_before_anything_is_asked(self, run, cloud, words):
        assert run("quote", "--sku", "s", *words).exit_code == 2
        assert cloud.asked == []

    def test_spot_is_priced_and_not_reserved(self, run, cloud):
        cloud.answers["POST /api/v1/quotes"] = (201, {**QUOTE, "capacity_class": "spot"})
        assert "not reserved" in run("quote", "--sku", "s", "-n", "1", "--for", "1h", "--class", "spot").stderr


class TestReserve:
    def test_yes_buys_at_once_and_prints_the_id_alone(self, run, market):
        done = run("reserve", "off_1", "--name", "training", "--tag", "team=a", "--yes")
        assert (done.exit_code, done.stdout) == (0, "res_1\n")
        assert "102,574.08 EUR" in done.stderr
        assert market.asked[-1].body == {
            "offer_id": "off_1",
            "name": "training",
            "tags": {"team": "a"},
            "confirm": True,
        }
        assert market.asked[-1].key == PROJECT_KEY

    def test_a_hold_costs_nothing_and_says_until_when(self, run, market):
        done = run("reserve", "off_1", "--hold")
        assert (done.exit_code, done.stdout) == (0, "res_1\n")
        assert "held until 2027-01-01 00:15:00 UTC" in done.stderr
        assert market.asked[-1].body["confirm"] is False

    def test_a_dry_run_reserves_nothing(self, run, market):
        shown = run("reserve", "off_1", "--dry-run")
        assert (shown.exit_code, "hosting" in shown.stdout) == (0, True)
        assert [asked.query for asked in asked_for(market, "POST", "reservations")] == [{"dry_run": "true"}]

    def test_with_nobody_to_ask_nothing_is_held_or_bought(self, run, market):
        assert run("reserve", "off_1").exit_code == 2
        assert run("reserve", "off_1", "--hold", "--yes").exit_code == 2
        assert market.asked == []

    def test_it_is_held_while_the_question_stands(self, env, market):
        terminal = Terminal(env, "reserve", "off_1")
        terminal.until("Buy it for 102,574.08 EUR?")
        assert len(asked_for(market, "POST", "reservations")) == 2, "the estimate, then the hold"
        terminal.type("y\n")
        terminal.until("Bought: training.")
        assert terminal.end() == 0
        assert asked_for(market, "POST", "reservations/res_1/confirm")

    def test_who_says_no_keeps_the_hold(self, env, market):
        terminal = Terminal(env, "reserve", "off_1")
        terminal.until("Buy it for")
        assert "reservations confirm res_1" in terminal.output
        terminal.type("n\n")
        assert terminal.end() == 1
        assert not asked_for(market, "POST", "reservations/res_1/confirm")
        assert not asked_for(market, "DELETE", "reservations/res_1")

    def test_a_lapsed_offer_brings_fresh_ones(self, run, market):
        fresh = {**QUOTE, "offers": [{**OFFER, "id": "off_2"}]}
        market.answers["POST /api/v1/reservations"] = problem(409, "offer_lapsed", "The offer has lapsed.", quote=fresh)
        told = run("reserve", "off_1", "--yes")
        assert told.exit_code == 1
        assert "The offer has lapsed." in told.stderr
        assert "off_2" in told.stderr


class TestReservations:
    def test_they_are_listed_and_shown(self, run, market):
        shown = run("reservations", "list", "--status", "confirmed").stdout
        assert all(word in shown for word in ("res_1", "training", "confirmed", "16 s", "14 d"))
        assert market.asked[-1].query["status"] == "confirmed"
        one = run("reservations", "show", "res_1").stdout
        assert all(
            word in one
            for word in ("16 in no-a-1", "2027-01-18", "14 d", "compute", "1.08", "11,098.6 kg CO2e", "confirm")
        )

    def test_a_name_will_do_where_one_alone_has_it(self, run, market):
        assert run("reservations", "show", "training", "--json").exit_code == 0
        assert market.asked[-1].query["name"] == "training"
        assert run("reservations", "show", "nobody").exit_code == 1
        market.answers["GET /api/v1/reservations"] = listed(BOUGHT, {**HELD, "id": "res_2"})
        told = run("reservations", "show", "training")
        assert told.exit_code == 1
        assert "res_2" in told.stderr
        over = {**BOUGHT, "id": "res_2", "ended_at": "2026-01-01T00:00:00Z"}
        market.answers["GET /api/v1/reservations"] = listed(BOUGHT, over)
        assert run("reservations", "show", "training").exit_code == 0, "one that is over gives way"

    def test_confirming_shows_the_price_and_asks(self, run, market):
        market.answers["GET /api/v1/reservations/res_1"] = (200, HELD)
        assert run("reservations", "confirm", "res_1").exit_code == 2
        assert not asked_for(market, "POST", "reservations/res_1/confirm")
        done = run("reservations", "confirm", "res_1", "--yes")
        assert done.exit_code == 0
        assert "102,574.08 EUR" in done.stderr
        assert asked_for(market, "POST", "reservations/res_1/confirm")

    def test_credit_that_does_not_suffice_is_said(self, run, market):
        market.answers["POST /api/v1/reservations/res_1/confirm"] = problem(
            402, "credit_exhausted", "1000 EUR are left."
        )
        told = run("reservations", "confirm", "res_1", "--yes")
        assert (told.exit_code, "1000 EUR are left." in told.stderr) == (1, True)

    def test_a_hold_is_dropped_and_not_cancelled(self, run, market):
        market.answers["GET /api/v1/reservations/res_1"] = (200, HELD)
        told = run("reservations", "cancel", "res_1", "--yes")
        assert (told.exit_code, "drop res_1" in told.stderr) == (1, True)
        assert run("reservations", "drop", "res_1").exit_code == 0

    @pytest.mark.parametrize(
        ("words", "body"),
        [
            (("cancel", "res_1"), {"kind": "cancel"}),
            (("extend", "res_1", "--to", "2027-02-01"), {"kind": "extend", "end_at": "2027-02-01T00:00:00Z"}),
            (("extend", "res_1", "--by", "7d"), {"kind": "extend", "end_at": "2027-01-25T00:00:00Z"}),
            (("shrink", "res_1", "--nodes", "8"), {"kind": "shrink", "nodes": 8}),
            (
                ("shrink", "res_1", "-n", "8", "--from", "2027-01-10"),
                {"kind": "shrink", "nodes": 8, "from": "2027-01-10T00:00:00Z"},
            ),
            (("move", "res_1", "--to", "2027-02-01"), {"kind": "move", "start_at": "2027-02-01T00:00:00Z"}),
            (("move", "res_1", "--site", "no-y"), {"kind": "move", "start_at": "2027-01-04T00:00:00Z", "site": "no-y"}),
            (
                ("split", "res_1", "--part", "research=4", "--part", "web=2"),
                {"kind": "split", "parts": [{"project": "research", "nodes": 4}, {"project": "web", "nodes": 2}]},
            ),
        ],
    )
    def test_a_change_is_quoted_asked_about_and_made_as_it_was_quoted(self, run, market, words, body):
        assert run("reservations", *words, "--dry-run").exit_code == 0
        assert run("reservations", *words).exit_code == 2, "nobody to ask"
        assert not asked_for(market, "POST", "reservations/res_1/changes")
        done = run("reservations", *words, "--yes")
        assert done.exit_code == 0, done.stderr
        assert asked_for(market, "POST", "reservations/res_1/change-quotes")[-1].body == body
        assert asked_for(market, "POST", "reservations/res_1/changes")[-1].body == {"change_quote_id": "cq_1"}
        assert "102,574.08 EUR → 51,287.04 EUR" in done.stderr
        assert "not to be paid any more: 50,000.00 EUR" in done.stderr
        assert "fee for what is given up, included: 100.00 EUR" in done.stderr

    def test_changes_that_say_nothing_are_refused_before_anything_is_asked(self, run, market):
        for words in (
            ("extend",),
            ("extend", "--to", "2027-02-01", "--by", "7d"),
            ("move",),
            ("split", "--part", "a=b"),
        ):
            assert run("reservations", words[0], "res_1", *words[1:]).exit_code == 2
        assert market.asked == []

    def test_events_are_told_in_words(self, run, market):
        data = {"kind": "shrink", "legs": [{"leaf": "no-a-1", "nodes": 8}], "refund": CHANGE["refund"], "fee": NOTHING}
        event = {
            "id": "evt_1",
            "type": "reservation.changed",
            "resource": "res_1",
            "at": "2027-01-04T00:00:00Z",
            "data": data,
        }
        market.answers["GET /api/v1/reservations/res_1/events"] = listed(event)
        line = run("reservations", "events", "res_1").stdout.splitlines()[-1]
        assert line.split(maxsplit=3)[2:] == ["changed", "shrink; 8 in no-a-1; refund 50,000.00 EUR"]

    def test_delivery_shows_the_hours_that_were_short(self, run, market):
        hour = {"site": "no-x", "start": "2027-01-04T00:00:00Z", "end": "2027-01-04T01:00:00Z", "promised": 57_600}
        hours = [{**hour, "delivered": 57_600}, {**hour, "start": "2027-01-04T01:00:00Z", "delivered": 54_000}]
        sums = {"reservation": "res_1", "promised_node_seconds": 115_200, "delivered_node_seconds": 111_600}
        path = "GET /api/v1/reservations/res_1/delivery"
        market.answers[path] = (200, {**sums, "data": hours, "has_more": False, "next_cursor": None})
        told = run("reservations", "delivery", "res_1")
        assert "115,200 node-seconds (32.00 node-hours)" in told.stderr
        assert ("3,600" in told.stdout, len(told.stdout.splitlines())) == (True, 2)
        assert len(run("reservations", "delivery", "res_1", "--hours").stdout.splitlines()) == 3
        market.answers[path] = (200, {**sums, "data": [], "has_more": False, "next_cursor": None})
        assert "nothing on record yet" in run("reservations", "delivery", "res_1").stderr


def leg(leaf, nodes, first, last):
    return Leg(leaf=leaf, nodes=nodes, start=START + timedelta(days=first), end=START + timedelta(days=last))


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        ([leg("a", 8, 0, 2), leg("b", 4, 0, 2)], "8 in a, 4 in b"),
        ([leg("a", 8, 0, 2), leg("a", 8, 0, 1)], "16 in a (2027-01-04 – 2027-01-05), 8 in a (2027-01-05 – 2027-01-06)"),
        ([leg("a", 2, 0, 1), leg("a", 2, 1, 2)], "2 in a"),
        ([leg(name, 1, 0, 1) for name in "abcdef"], "6 in 6 leaves"),
    ],
)
def test_layers_of_one_leaf_are_added_up(legs, words):
    assert legs_text(legs) == words


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(days=14), "14 d"),
        (timedelta(days=1, hours=12), "1 d 12 h"),
        (timedelta(minutes=30), "30 min"),
        (timedelta(seconds=90), "90 s"),
        (timedelta(hours=2, seconds=30), "2 h"),
    ],
)
def test_lengths_of_time_are_short(length, words):
    assert lasting(START, START + length) == words


def test_events_of_any_kind_have_words():
    assert event_words({}) == ""
    assert event_words({"reason": {"code": "no_engine", "message": ""}}) == "no engine"
    assert (
        event_words({"leaf": "no-a-1", "bound": ["node_1", "node_2"], "short": 1}) == "no-a-1; bound 2 nodes; short 1"
    )
