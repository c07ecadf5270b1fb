"""`skerry endpoints`, and models at several upstreams."""

import io
import json
import signal

import msgspec
import pytest
from rich.console import Console

from skerry.cli.top import Row, _fitting
from skerry.client.answers.inference import Endpoint, Load
from tests.cli.fake_cloud import MODEL, OPERATOR_KEY, PROJECT_KEY, listed, problem
from tests.cli.terminal import Terminal

ENDPOINT = {
    "id": "ep_1",
    "name": "mine",
    "model": "tiny",
    "kind": "dedicated",
    "status": "ready",
    "charge_by": "time",
    "min_replicas": 0,
    "max_replicas": 1,
    "ready_replicas": 1,
    "wanted_replicas": 1,
    "version": 2,
}
LOAD = {
    "endpoint": "ep_1",
    "name": "mine",
    "status": "ready",
    "in_flight": 3,
    "waiting": 2,
    "batch_waiting": 1,
    "requests_per_minute": 60.0,
    "tokens_per_second": 123.4,
    "first_token_ms": 56.0,
    "ready_replicas": 1,
    "wanted_replicas": 1,
    "cold_starts": [{"replica": "rep_1", "cold_start_ms": 1234, "parts_ms": {"loaded": 800}}],
}
FREE = {"amount": "0", "currency": "EUR"}
HOUR = {"amount": "1.20", "currency": "EUR"}
FOR_NOTHING = {"charge_by": "tokens", "replica_hour": FREE, "min_hour": FREE, "max_hour": FREE}
PAID = {"charge_by": "time", "replica_hour": HOUR, "min_hour": FREE, "max_hour": {**HOUR, "amount": "2.40"}}
CREATE = ("endpoints", "create", "--model", "tiny", "--name", "mine", "--min", "0", "--max", "2", "--idle", "5m")


@pytest.fixture
def made(cloud):
    """Estimates are `PAID`; an endpoint that is made is ready at once."""

    def create(asked):
        return (200, PAID) if asked.query.get("dry_run") else (201, ENDPOINT)

    cloud.answers |= {"POST /api/v1/endpoints": create, "GET /api/v1/endpoints/ep_1": (200, ENDPOINT)}
    return cloud


def test_creating_shows_the_price_and_needs_a_yes(run, made):
    refused = run(*CREATE)
    assert refused.exit_code == 2
    assert "0 EUR to 2.4 EUR an hour, 1.2 EUR for each replica" in refused.stderr
    assert "--yes" in refused.stderr
    assert [asked.query for asked in made.of("/api/v1/endpoints")] == [{"dry_run": "true"}]
    result = run(*CREATE, "--yes")
    assert result.exit_code == 0, result.stderr
    asked = made.of("/api/v1/endpoints")[-1]
    assert asked.body == {
        "model": "tiny",
        "kind": "dedicated",
        "name": "mine",
        "min_replicas": 0,
        "max_replicas": 2,
        "idle_timeout_seconds": 300,
    }
    assert asked.key == PROJECT_KEY
    assert "skerry chat -m mine" in result.stderr


def test_what_costs_nothing_is_not_asked_about(run, made):
    made.answers["POST /api/v1/endpoints"] = lambda asked: (
        (200, FOR_NOTHING) if asked.query.get("dry_run") else (201, ENDPOINT)
    )
    assert run(*CREATE, "--kind", "shared").exit_code == 0
    assert made.of("/api/v1/endpoints")[-1].key == OPERATOR_KEY


def test_a_dry_run_makes_nothing(run, made):
    result = run(*CREATE, "--dry-run", "--json")
    assert json.loads(result.stdout) == PAID
    assert len(made.of("/api/v1/endpoints")) == 1


def test_creating_waits_until_it_can_be_called(run, made):
    asleep = {"code": "scaled_to_zero", "message": "nobody asks"}
    states = iter(
        [
            {"status": "starting"},
            {"status": "stopped", "status_reason": {"code": "drained", "message": "drained"}},
            {"status": "stopped", "status_reason": asleep},
        ]
    )
    made.answers["GET /api/v1/endpoints/ep_1"] = lambda asked: (200, {**ENDPOINT, **next(states)})
    assert json.loads(run(*CREATE, "--yes", "--json").stdout)["status"] == "stopped"
    assert len(made.of("/api/v1/endpoints/ep_1")) == 3


@pytest.mark.parametrize(
    ("args", "body"),
    [
        (
            ["--min", "0", "--max", "1", "--idle", "5"],
            {"min_replicas": 0, "max_replicas": 1, "idle_timeout_seconds": 5},
        ),
        (["--policy", "least_load", "--queue", "1m"], {"policy": "least_load", "queue_seconds": 60}),
        (["--default", "target,idle"], {"target_concurrency": None, "idle_timeout_seconds": None}),
    ],
)
def test_scaling_changes_what_is_said(run, cloud, args, body):
    cloud.answers |= {
        "GET /api/v1/endpoints/mine": (200, ENDPOINT),
        "PATCH /api/v1/endpoints/ep_1": (200, ENDPOINT),
    }
    result = run("endpoints", "scale", "mine", *args)
    assert result.exit_code == 0, result.stderr
    assert (cloud.asked[-1].body, cloud.asked[-1].key) == (body, OPERATOR_KEY)


def test_more_replicas_that_are_paid_need_a_yes(run, cloud):
    cloud.answers |= {
        "GET /api/v1/endpoints/mine": (200, ENDPOINT),
        "POST /api/v1/endpoints": (200, PAID),
        "PATCH /api/v1/endpoints/ep_1": (200, ENDPOINT),
    }
    assert run("endpoints", "scale", "mine", "--max", "2").exit_code == 2
    assert cloud.asked[-1].query == {"dry_run": "true"}
    assert (cloud.asked[-1].body["min_replicas"], cloud.asked[-1].body["max_replicas"]) == (0, 2)
    assert run("endpoints", "scale", "mine", "--max", "2", "--yes").exit_code == 0
    assert cloud.asked[-1].method == "PATCH"


@pytest.mark.parametrize(
    ("verb", "more", "body"),
    [("drain", [], None), ("resume", [], None), ("rollout", [], None), ("rollout", ["--model", "b"], {"model": "b"})],
)
def test_verbs(run, cloud, verb, more, body):
    cloud.answers[f"POST /api/v1/endpoints/mine/{verb}"] = (200, ENDPOINT)
    assert json.loads(run("endpoints", verb, "mine", *more, "--json").stdout) == ENDPOINT
    assert cloud.asked[-1].body == body


def test_a_verb_that_is_refused_says_what_to_do(run, cloud):
    refusal = problem(409, "not_now", "drain of mine: it is stopped", suggestion="Resume it.")
    cloud.answers["POST /api/v1/endpoints/mine/drain"] = refusal
    result = run("endpoints", "drain", "mine")
    assert (result.exit_code, result.stderr) == (1, "Error: drain of mine: it is stopped\nResume it.\n")


def test_removing_needs_a_yes(run, cloud):
    cloud.answers["DELETE /api/v1/endpoints/mine"] = (200, ENDPOINT)
    assert run("endpoints", "remove", "mine").exit_code == 2
    assert run("endpoints", "remove", "mine", "--yes").exit_code == 0


def test_logs_are_bytes_as_they_are(run, cloud):
    cloud.answers["GET /api/v1/endpoints/mine/logs"] = (200, "loading … 100 %\n".encode())
    result = run("endpoints", "logs", "mine", "--tail", "1")
    assert result.stdout == "loading … 100 %\n"
    assert cloud.asked[-1].query == {"tail": "1"}
    run("endpoints", "logs", "mine", "--follow", "--replica", "rep_1")
    assert cloud.asked[-1].query == {"follow": "true", "replica": "rep_1"}


class TestTop:
    @pytest.fixture(autouse=True)
    def two_endpoints(self, cloud):
        theirs = {**ENDPOINT, "id": "ep_2", "name": "shared", "kind": "shared"}
        cloud.answers |= {
            "GET /api/v1/endpoints": listed(ENDPOINT, theirs),
            "GET /api/v1/endpoints/mine": (200, ENDPOINT),
            "GET /api/v1/endpoints/ep_1/load": (200, LOAD),
            "GET /api/v1/endpoints/ep_2/load": problem(403, "operator_only", "the operator's"),
        }

    def test_once_is_a_table(self, run):
        lines = [" ".join(line.split()) for line in run("endpoints", "top", "--once").stdout.splitlines()]
        assert lines == [
            "name status replicas in flight waiting req/min tok/s first token cold start",
            "mine ready 1/1 3 1 + 1 batch 60 123.4 56 ms 1.23 s",
            "shared ready 1/1 – – – – – –",
        ]

    def test_json_has_the_loads_with_their_models(self, run):
        mine, shared = json.loads(run("endpoints", "top", "--json").stdout)["data"]
        assert mine == {"model": "tiny", "kind": "dedicated", **LOAD}
        assert (shared["name"], "in_flight" in shared) == ("shared", False)

    def test_some_can_be_named(self, run, cloud):
        assert len(json.loads(run("endpoints", "top", "mine", "--json").stdout)["data"]) == 1

    def test_nothing_there(self, run, cloud):
        cloud.answers["GET /api/v1/endpoints"] = listed()
        assert "There are no endpoints" in run("endpoints", "top", "--once").stderr

    @pytest.mark.parametrize(
        "leave",
        [lambda terminal: terminal.type("q"), lambda terminal: terminal.process.send_signal(signal.SIGINT)],
        ids=["q", "Ctrl-C"],
    )
    def test_live_until_q_or_ctrl_c(self, cloud, env, leave):
        terminal = Terminal({**env, "COLUMNS": "120"}, "endpoints", "top", term="xterm")
        terminal.until("q ends")
        # Drawn again by itself.
        cloud.answers["GET /api/v1/endpoints/ep_1/load"] = (200, {**LOAD, "tokens_per_second": 777.7})
        terminal.until("777.7")
        leave(terminal)
        # What was last there stays on the screen.
        terminal.until("\x1b[?1049l")
        terminal.until("name")
        assert terminal.end() == 0

    def test_a_narrow_terminal_shows_what_has_room(self):
        row = Row(msgspec.convert(ENDPOINT, Endpoint), msgspec.convert(LOAD, Load))
        for width in (120, 80, 40):
            console = Console(width=width, file=io.StringIO())
            console.print(_fitting(console, [row]))
            header, line = console.file.getvalue().splitlines()
            assert header.split()[0] == "name"
            assert line.split()[:2] == ["mine", "ready"]
            assert ("cold start" in header) == (width == 120)
            assert all(title in header for title in ("status", "replicas"))


class TestUpstreams:
    @pytest.mark.parametrize(
        ("args", "source"),
        [
            (
                ["--upstream", "http://a/v1=95", "--upstream", "http://b/v1=5"],
                [("http://a/v1", 95), ("http://b/v1", 5)],
            ),
            (
                ["--upstream", "http://a/v1", "--upstream", "http://b/v1"],
                [("http://a/v1", None), ("http://b/v1", None)],
            ),
            (["--upstream", "http://a/v1=0"], [("http://a/v1", 0)]),
        ],
    )
    def test_several_share_by_weight(self, run, cloud, args, source):
        cloud.answers["POST /api/v1/models"] = (201, MODEL)
        result = run("models", "add", "m", *args)
        assert result.exit_code == 0, result.stderr
        wanted = [{"url": url} | ({} if weight is None else {"weight": weight}) for url, weight in source]
        assert cloud.of("/api/v1/models")[0].body["source"] == {"upstreams": wanted}

    def test_an_equals_sign_in_a_query_is_no_weight(self, run, cloud):
        cloud.answers["POST /api/v1/models"] = (201, MODEL)
        run("models", "add", "m", "--upstream", "http://a/v1?version=2")
        assert cloud.of("/api/v1/models")[0].body["source"] == {"upstream": "http://a/v1?version=2"}

    def test_each_key_goes_to_its_own_server(self, run, cloud):
        cloud.answers["POST /api/v1/models"] = (201, MODEL)
        two = ("--upstream", "http://a=1", "--upstream", "http://b=2")
        run("models", "add", "m", *two, "--upstream-key-stdin", input="one\n\n")
        assert cloud.of("/api/v1/models")[0].body["source"]["upstreams"] == [
            {"url": "http://a", "weight": 1, "key": "one"},
            {"url": "http://b", "weight": 2},
        ]
        refused = run("models", "add", "m", *two, "--upstream-key", "one")
        assert refused.exit_code == 2
        assert "2 upstreams and 1 keys" in refused.stderr


def test_a_model_on_its_way_from_a_hub_shows_how_far_it_is(run, cloud):
    reason = {"code": "downloading", "message": "Downloading 37 %."}
    states = iter([{"status": "starting", "status_reason": reason}, {"status": "ready"}])
    cloud.answers |= {
        "POST /api/v1/models": (201, {**MODEL, "license": "apache-2.0", "status": "downloading"}),
        "GET /api/v1/endpoints/m": lambda asked: (200, {**ENDPOINT, **next(states)}),
    }
    result = run("models", "add", "m", "--hub", "org/m")
    assert result.exit_code == 0
    assert "Added m, licence apache-2.0." in result.stderr
    assert "Downloading 37 %" in result.stderr


def test_the_machines_own_keys_are_profiles(run, cloud):
    run("--profile", "operator", "whoami")
    run("--profile", "project", "whoami")
    assert [asked.key for asked in cloud.asked] == [OPERATOR_KEY, PROJECT_KEY]
