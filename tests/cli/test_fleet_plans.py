"""`skerry fleet order`, `reached`, `plan-maintenance`, `call-off`: what will come, and what goes away."""

import pytest

from tests.cli.test_fleet import LATE

DELIVERY = {
    "id": "dlv_1",
    "name": "d",
    "nodes": 8,
    "service_at": "2030-01-31T00:00:00Z",
    "milestones": [{"name": "installed", "planned_at": "2029-12-01T00:00:00Z", "reached_at": None}],
}
ORDER = ("fleet", "order", "d", "--site", "s", "--sku", "k", "--nodes", "8", "--in-service", "2030-01-31")


def test_an_order_makes_leaves_in_a_hall(run, cloud):
    cloud.answers["POST /api/v1/deliveries"] = (201, DELIVERY)
    result = run(*ORDER, "--hall", "h", "--leaf-size", "4", "--confidence", "0.9")
    assert result.exit_code == 0, result.stderr
    assert "d: 8 nodes, in service on 2030-01-31" in result.stderr
    assert cloud.asked[-1].body == {
        "name": "d", "site": "s", "sku": "k", "nodes": 8, "service_at": "2030-01-31T00:00:00Z", "confidence": 0.9,
        "hall": "h", "leaf_size": 4,
    }  # fmt: skip


def test_or_fills_leaves_that_are_there(run, cloud):
    cloud.answers["POST /api/v1/deliveries"] = (201, DELIVERY)
    assert run(*ORDER, "--leaf", "a=6", "--leaf", "b=2").exit_code == 0
    assert cloud.asked[-1].body["leaves"] == {"a": 6, "b": 2}


@pytest.mark.parametrize(
    "where",
    [(), ("--leaf", "a=8", "--hall", "h"), ("--leaf", "a=some"), ("--leaf", "a=0"), ("--hall", "h", "--nodes", "0")],
)
def test_an_order_without_one_place_is_wrong_use(run, cloud, where):
    assert run(*ORDER, *where).exit_code == 2
    assert cloud.asked == []


def test_a_milestone_keeps_the_date_that_was_planned_for_it(run, cloud):
    cloud.answers |= {
        "GET /api/v1/deliveries/d": (200, DELIVERY),
        "PATCH /api/v1/deliveries/d": (200, {**DELIVERY, "makes_late": [LATE]}),
    }
    result = run("fleet", "reached", "d", "installed", "--at", "2025-12-24")
    assert result.exit_code == 0, result.stderr
    assert "d is installed." in result.stderr and "res_1 lacks 2 nodes" in result.stderr
    dates = {"planned_at": "2029-12-01T00:00:00Z", "reached_at": "2025-12-24T00:00:00Z"}
    assert cloud.asked[-1].body == {"milestones": {"installed": dates}, "force": False}
    assert run("fleet", "reached", "d", "painted").exit_code == 2


def test_maintenance_is_planned_and_called_off(run, cloud):
    window = {"id": "mnt_1", "leaf": "l", "nodes": 2, "start": "2030-01-01T00:00:00Z", "end": "2030-01-02T00:00:00Z"}
    cloud.answers |= {
        "POST /api/v1/maintenance": (201, {**window, "makes_late": [LATE]}),
        "DELETE /api/v1/maintenance/mnt_1": (200, window),
    }
    asked = ("fleet", "plan-maintenance", "l", "--nodes", "2", "--from", "2030-01-01", "--to", "2030-01-02")
    result = run(*asked, "--reason", "pumps", "--force")
    assert "mnt_1: 2 nodes of l are away" in result.stderr and "res_1 lacks 2 nodes" in result.stderr
    assert (cloud.asked[-1].body["nodes"], cloud.asked[-1].body["force"]) == (2, True)
    assert run(*asked).exit_code == 2
    assert "called off" in run("fleet", "call-off", "mnt_1").stderr
