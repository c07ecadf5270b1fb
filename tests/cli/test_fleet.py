"""`skerry fleet`: a plan like a diff, a question before it is applied, and words about whom a change makes late."""

import json
from pathlib import Path

import pytest

from skerry.cli.commands.fleet import EXAMPLES
from skerry.cli.fleetview import by_hall, plan_lines
from skerry.client.answers.fleet import FleetChange, FleetPlan, LeafRow
from tests.cli.fake_cloud import OPERATOR_KEY, listed, problem

PLAN = {
    "applied": False,
    "counts": {"add": 33, "change": 1, "remove": 0},
    "changes": [
        {"action": "add", "section": "leaves", "name": "no-a-1", "count": 1, "fields": {}, "line": 3},
        {"action": "add", "section": "nodes", "name": "no-a-1-[01-32]", "count": 32, "fields": {}, "line": 5},
        {
            "action": "change",
            "section": "sites",
            "name": "no-x",
            "count": 1,
            "fields": {
                "pue": {"before": "1.1", "after": "1.2"},
                "carbon": {"before": None, "after": {"g_per_kwh": "3"}},
            },
            "line": 1,
        },
    ],
    "refused": [],
    "makes_late": [],
    "warnings": ["no-x has 80 kW, and its nodes may draw 90 kW, PUE included"],
}
NOTHING = {**PLAN, "changes": [], "warnings": [], "counts": {"add": 0, "change": 0, "remove": 0}}
REFUSED = {**PLAN, "refused": ["res_1 lacks 1 in a-2"]}
ROW = {
    "site": "no-x",
    "country": "NO",
    "hall": "no-a",
    "leaf": "no-a-1",
    "sku": "h100-sxm.8x",
    "spares": 1,
    "size": 64,
    "statuses": {"ready": 30, "failed": 2},
    "sellable": 29,
    "planned": 32,
}
NODE = {"id": "node_1", "hostname": "no-a-1-01", "sku": "s", "leaf": "no-a-1", "site": "no-x", "status": "draining"}
LATE = {
    "reservation": "res_1",
    "project": "proj_1",
    "starts": "2026-02-01T00:00:00Z",
    "leaf": "no-a-1",
    "nodes_short": 2,
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text("sites: [{name: no-x}]\n")
    return str(path)


@pytest.fixture
def planned(cloud):
    cloud.answers |= {
        "POST /api/v1/fleet/plan": (200, PLAN),
        "POST /api/v1/fleet/apply": (200, {**PLAN, "applied": True}),
    }
    return cloud


def test_a_plan_reads_like_a_diff(run, planned, file):
    result = run("fleet", "plan", file)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "+ leaf no-a-1",
        "+ node no-a-1-[01-32] (32 nodes)",
        "~ site no-x",
        "    pue: 1.1 → 1.2",
        "    carbon: – → {'g_per_kwh': '3'}",
        "! no-x has 80 kW, and its nodes may draw 90 kW, PUE included",
    ]
    assert "33 to add, 1 to change, 0 to remove." in result.stderr
    (asked,) = planned.asked
    assert (asked.body, asked.key) == ({"document": "sites: [{name: no-x}]\n", "prune": False}, OPERATOR_KEY)


def test_applying_asks_first(run, planned, file):
    refused = run("fleet", "apply", file)
    assert refused.exit_code == 2 and "--yes" in refused.stderr
    assert not planned.of("/api/v1/fleet/apply")
    done = run("fleet", "apply", file, "--yes", "--prune")
    assert done.exit_code == 0 and "Applied: 33 added, 1 changed, 0 removed." in done.stderr
    assert planned.of("/api/v1/fleet/apply")[0].body["prune"] is True


def test_json_is_the_plan_that_was_applied(run, planned, file):
    assert json.loads(run("fleet", "apply", file, "--yes", "--json").stdout)["applied"] is True
    assert json.loads(run("fleet", "plan", file, "--json").stdout) == PLAN


def test_nothing_to_change_needs_no_yes(run, cloud, file):
    cloud.answers |= {
        "POST /api/v1/fleet/plan": (200, NOTHING),
        "POST /api/v1/fleet/apply": (200, {**NOTHING, "applied": True}),
    }
    result = run("fleet", "apply", file)
    assert result.exit_code == 0 and "There is nothing to change." in result.stderr


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_what_is_sold_is_not_taken_away(run, cloud, file, verb):
    cloud.answers["POST /api/v1/fleet/plan"] = (200, REFUSED)
    result = run("fleet", verb, file, "--prune")
    assert result.exit_code == 1
    assert "✗ res_1 lacks 1 in a-2" in result.stdout and "sold or in use" in result.stderr
    assert not cloud.of("/api/v1/fleet/apply")


def test_mistakes_are_shown_with_their_lines(run, cloud, file):
    errors = [
        {"path": "line 2", "code": "bad_pue", "message": "sites[0].pue: pue: 0 must be at least 1"},
        {"path": "line 9", "code": "duplicate_host", "message": "nodes[1]: node a is named twice, first on line 8"},
    ]
    detail = "The fleet file has 2 mistakes. Nothing was applied."
    cloud.answers["POST /api/v1/fleet/plan"] = problem(422, "bad_fleet_file", detail, errors=errors)
    result = run("fleet", "plan", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"Error: {detail}",
        "  line 2: sites[0].pue: pue: 0 must be at least 1",
        "  line 9: nodes[1]: node a is named twice, first on line 8",
    ]


def test_a_file_may_come_on_stdin_and_has_to_be_text(run, planned, tmp_path):
    assert run("fleet", "plan", "-", input="halls: []\n").exit_code == 0
    assert planned.asked[-1].body["document"] == "halls: []\n"
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    assert run("fleet", "plan", str(tmp_path / "bad.yaml")).exit_code == 2
    assert run("fleet", "plan", str(tmp_path / "none.yaml")).exit_code == 2


def test_the_fleet_is_a_table(run, cloud):
    cloud.answers["GET /api/v1/fleet"] = (200, {"data": [ROW]})
    lines = [" ".join(line.split()) for line in run("fleet", "show").stdout.splitlines()]
    assert lines == [
        "site hall leaf sku nodes ready spares sellable planned out of service",
        "no-x NO no-a no-a-1 h100-sxm.8x 32 30 1 29 +32 2 failed",
    ]


def test_many_leaves_are_added_up_by_hall(run, cloud):
    cloud.answers["GET /api/v1/fleet"] = (200, {"data": [{**ROW, "leaf": f"no-a-{n}"} for n in range(80)]})
    result = run("fleet", "show")
    assert "2,400" in result.stdout and "80 leaves, added up by hall" in result.stderr
    assert len(run("fleet", "show", "--leaves").stdout.splitlines()) == 81
    assert len(json.loads(run("fleet", "show", "--json").stdout)["data"]) == 80


def test_halls_are_added_up_whatever_the_order():
    rows = [LeafRow(site=site, hall="h", sku="s", statuses={"ready": 1}, sellable=1) for site in ("b", "a", "b")]
    assert [(row.site, row.sellable, row.statuses) for row in by_hall(rows)] == [
        ("a", 1, {"ready": 1}),
        ("b", 2, {"ready": 2}),
    ]


def test_a_long_plan_is_cut():
    changes = tuple(FleetChange(action="add", section="leaves", name=f"l{n}") for n in range(50))
    lines = list(plan_lines(FleetPlan(changes=changes)))
    assert len(lines) == 41 and lines[-1] == "+ … 10 more of kind leaf"


def test_the_catalogue_marks_what_is_assumed(run, cloud):
    sku = {
        "name": "h100-sxm.8x",
        "accelerator": "H100-SXM",
        "accelerators_per_node": 8,
        "accelerator_memory": 80_000_000_000,
        "cpu": 112,
        "tdp_w": 10200,
        "idle_w": 2000,
        "leaf_size": 32,
        "sources": {"tdp_w": "datasheet", "idle_w": "assumed: a guess"},
    }
    cloud.answers["GET /api/v1/fleet/catalogue"] = listed(sku)
    line = " ".join(run("fleet", "catalogue").stdout.splitlines()[1].split())
    assert line == "h100-sxm.8x 8 × H100-SXM 80 GB 112 10,200 W ~2,000 W 32"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_printed_as_they_are(run, name):
    examples = Path(__file__).resolve().parents[2] / "examples" / "fleets"
    assert run("fleet", "example", name).stdout == (examples / f"{name}.yaml").read_text()
    assert sorted(path.stem for path in examples.glob("*.yaml")) == sorted(EXAMPLES)


def test_an_example_that_there_is_not(run):
    assert "one-site" in run("fleet", "example").stderr
    result = run("fleet", "example", "mars")
    assert result.exit_code == 2 and "one-site" in result.stderr


def test_draining_says_whom_it_makes_late(run, cloud):
    cloud.answers["POST /api/v1/nodes/no-a-1-01/drain"] = (200, {**NODE, "makes_late": [LATE]})
    result = run("fleet", "drain", "no-a-1-01", "--reason", "fans", "--until", "4h", "--force")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        "no-a-1-01 is draining.",
        "res_1 lacks 2 nodes in no-a-1 from 2026-02-01 00:00:00 on",
    ]
    body = cloud.asked[-1].body
    assert (body["reason"], body["force"], body["until"][-1]) == ("fans", True, "Z")


@pytest.mark.parametrize("verb", ["cordon", "resume", "fail", "retire"])
def test_other_verbs(run, cloud, verb):
    cloud.answers[f"POST /api/v1/nodes/n/{verb}"] = (200, NODE)
    assert json.loads(run("fleet", verb, "n", "--reason", "why", "--json").stdout) == NODE
    assert cloud.asked[-1].body == {"reason": "why"}


def test_a_drain_that_breaks_a_promise_is_not_done(run, cloud):
    detail = "This would leave a confirmed reservation short: res_1 lacks 1 node."
    cloud.answers["POST /api/v1/nodes/n/drain"] = problem(409, "breaks_reservations", detail, suggestion="Say force.")
    result = run("fleet", "drain", "n", "--reason", "why")
    assert (result.exit_code, result.stderr) == (1, f"Error: {detail}\nSay force.\n")


def test_lists(run, cloud):
    cloud.answers |= {
        "GET /api/v1/nodes": listed(NODE),
        "GET /api/v1/deliveries": listed(
            {"id": "dlv_1", "name": "d", "site": "s", "sku": "k", "nodes": 8, "confidence": 0.9, "milestone": "ordered"}
        ),
        "GET /api/v1/maintenance": listed({"id": "mnt_1", "leaf": "l", "sku": "k", "nodes": 2, "reason": "pumps"}),
    }
    assert "no-a-1-01" in run("fleet", "nodes", "--status", "draining").stdout
    assert cloud.asked[-1].query["status"] == "draining"
    assert "90%" in run("fleet", "deliveries").stdout
    assert "pumps" in run("fleet", "maintenance", "--leaf", "l").stdout


def test_a_slip_says_whom_it_makes_late(run, cloud):
    delivery = {"id": "dlv_1", "name": "d", "service_at": "2027-01-31T00:00:00Z", "makes_late": [LATE]}
    cloud.answers["PATCH /api/v1/deliveries/d"] = (200, delivery)
    result = run("fleet", "slip", "d", "2027-01-31")
    assert cloud.asked[-1].body == {"service_at": "2027-01-31T00:00:00Z"}
    assert "res_1 lacks 2 nodes" in result.stderr
