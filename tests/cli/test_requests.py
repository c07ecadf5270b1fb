"""`skerry requests`, and the limits of projects and organizations."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.cli.fake_cloud import OPERATOR_KEY, PROJECT_KEY, listed

REQUEST = {
    "id": "0198c0de",
    "started_at": "2026-01-02T03:04:04Z",
    "ended_at": "2026-01-02T03:04:05Z",
    "model": "tiny",
    "endpoint": "ep_1",
    "kind": "chat",
    "stream": True,
    "status": 200,
    "key": {"id": "key_1", "name": "ci"},
    "tokens": {"prompt": 10, "cached": 4, "completion": 30},
    "counted": "engine",
    "timings": {"queue_ms": 1.5, "first_token_ms": 20.0, "total_ms": 1234.5},
    "cost": {"amount": "0.0000123", "currency": "EUR"},
}
LIMITS = {"requests_per_minute": 60, "tokens_per_minute": None, "concurrent_requests": None}
PROJECT = {"id": "proj_1", "name": "lab", "limits": LIMITS, "log_content": False}
ORGANIZATION = {"id": "org_1", "name": "acme", "limits": LIMITS, "tier": "standard"}


def test_the_log_is_a_table(run, cloud):
    cloud.answers["GET /api/v1/requests"] = listed(REQUEST)
    header, row = (" ".join(line.split()) for line in run("requests", "list").stdout.splitlines())
    assert header == "ended id model key status prompt answer queue first token total cost"
    assert row == "2026-01-02 03:04:05 0198c0de tiny ci 200 14 30 2 ms 20 ms 1.23 s 0.0000123 EUR"
    assert json.loads(run("requests", "list", "--json").stdout)["data"] == [REQUEST]


def test_filters_are_the_servers(run, cloud):
    cloud.answers["GET /api/v1/requests"] = listed()
    result = run(
        *("requests", "list", "--model", "tiny", "--key", "ci", "--status", "5xx", "--min-ms", "100"),
        *("--since", "2026-01-01T10:20:30Z", "--until", "2026-01-02", "--search", "0198", "--batch", "batch_1"),
    )
    assert "There are no such requests" in result.stderr
    assert cloud.asked[-1].query == {
        "model": "tiny",
        "key": "ci",
        "status": "5xx",
        "min_ms": "100",
        "from": "2026-01-01T10:20:30Z",
        "to": "2026-01-02T00:00:00Z",
        "q": "0198",
        "batch": "batch_1",
        "limit": "50",
    }


def test_since_is_to_the_minute(run, cloud):
    cloud.answers["GET /api/v1/requests"] = listed()
    run("requests", "list", "--since", "90s")
    assert not cloud.asked[-1].query["from"].endswith(":00:00Z")


def test_show_has_what_was_said_or_why_not(run, cloud):
    said = {"request": "Hi", "answer": "Hello"}
    cloud.answers["GET /api/v1/requests/0198c0de"] = (200, {**REQUEST, "content": said})
    shown = run("requests", "show", "0198c0de").stdout
    assert "asked        Hi" in shown
    assert "14 prompt (4 cached) + 30 completion" in shown
    reason = {"code": "off", "message": "The project does not keep content."}
    cloud.answers["GET /api/v1/requests/0198c0de"] = (200, {**REQUEST, "content": None, "content_reason": reason})
    assert "The project does not keep content." in run("requests", "show", "0198c0de").stdout


def test_following_prints_each_once_as_it_comes(cloud, env):
    later = {**REQUEST, "id": "later", "ended_at": "2026-01-02T03:05:00Z"}

    def answer(asked):
        return listed(REQUEST) if len(cloud.of("/api/v1/requests")) < 2 else listed(later, REQUEST)

    cloud.answers["GET /api/v1/requests"] = answer
    environ = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    command = [sys.executable, "-m", "skerry.cli", "requests", "list", "--follow", "--json", "--since", "2026-01-01"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ, text=True)
    try:
        lines = [json.loads(process.stdout.readline())["id"] for _ in range(2)]
        assert lines == ["0198c0de", "later"]
        deadline = time.monotonic() + 20
        while len(cloud.of("/api/v1/requests")) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    assert rest == ""


class TestLimits:
    @pytest.fixture(autouse=True)
    def both(self, cloud):
        cloud.answers |= {
            "GET /api/v1/projects/lab": (200, PROJECT),
            "PATCH /api/v1/projects/proj_1": (200, PROJECT),
            "GET /api/v1/organizations/acme": (200, ORGANIZATION),
            "PATCH /api/v1/organizations/org_1": (200, ORGANIZATION),
            "GET /api/v1/organizations": listed(ORGANIZATION),
            "POST /api/v1/organizations": (201, ORGANIZATION),
        }

    @pytest.mark.parametrize(
        ("args", "body"),
        [
            (["--tpm", "1000"], {"limits": {"requests_per_minute": 60, "tokens_per_minute": 1000}}),
            (["--rpm", "none"], {"limits": {}}),
            (["--log-content"], {"log_content": True}),
            (["--no-log-content", "--rename", "x"], {"log_content": False, "name": "x"}),
            (["--jurisdiction", "any"], {"jurisdictions": []}),
        ],
    )
    def test_of_a_project_what_is_not_said_stays(self, run, cloud, args, body):
        result = run("projects", "set", "lab", *args)
        assert result.exit_code == 0, result.stderr
        assert (cloud.asked[-1].body, cloud.asked[-1].key) == (body, PROJECT_KEY)

    def test_of_an_organization_by_the_operator(self, run, cloud):
        assert run("organizations", "set", "acme", "--concurrent", "5", "--tier", "free").exit_code == 0
        limits = {"requests_per_minute": 60, "concurrent_requests": 5}
        assert (cloud.asked[-1].body, cloud.asked[-1].key) == ({"limits": limits, "tier": "free"}, OPERATOR_KEY)

    @pytest.mark.parametrize("noun", [("projects", "lab"), ("organizations", "acme")])
    def test_show_and_nothing_to_change(self, run, cloud, noun):
        assert "60 requests/min" in run(noun[0], "show", noun[1]).stdout
        assert run(noun[0], "set", noun[1]).exit_code == 2
        refused = run(noun[0], "set", noun[1], "--rpm", "many")
        assert refused.exit_code == 2
        assert "none to lift it" in refused.stderr

    def test_organizations_are_listed_and_made(self, run, cloud):
        header, row = run("organizations", "list").stdout.splitlines()
        assert header.split() == ["id", "name", "tier", "limits"]
        assert row.split()[:3] == ["org_1", "acme", "standard"]
        assert "org_1" in run("organizations", "create", "acme").stderr
