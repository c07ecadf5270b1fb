"""Files, batches, load and the request log from the command line, as a newcomer types it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import MODEL, Cloud
from tests.waiting import eventually_sync

pytestmark = pytest.mark.cloud

ROWS = 3


def test_a_batch_of_the_default_model(cloud: Cloud, tmp_path: Path) -> None:
    source, target = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps(_row(number)) + "\n" for number in range(ROWS)))

    created = cloud.cli("batch", "create", str(source), "--yes", "--wait", timeout=120)
    assert created.returncode == 0, created.stderr
    batch = created.stdout.strip()
    assert batch.startswith("batch_")
    assert f"{ROWS} of {ROWS} answered" in created.stderr

    got = cloud.cli("batch", "results", batch, "-o", str(target))
    assert got.returncode == 0, got.stderr
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert [answer["custom_id"] for answer in answers] == [f"row-{number}" for number in range(ROWS)]
    assert all(answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers)

    shown = _json(cloud, "batch", "show", batch)
    assert shown["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0}
    assert Decimal(shown["skerry"]["cost"]) > 0
    listed = _json(cloud, "files", "list")["data"]
    assert {shown["input_file_id"], shown["output_file_id"]} <= {file["id"] for file in listed}
    assert cloud.cli("files", "remove", shown["input_file_id"], "--yes").returncode == 0

    def logged() -> bool:
        return len(_json(cloud, "requests", "list", "--batch", batch)["data"]) == ROWS

    eventually_sync(logged)


def test_a_file_comes_back_as_it_went(cloud: Cloud, tmp_path: Path) -> None:
    source, target = tmp_path / "one.jsonl", tmp_path / "back.jsonl"
    source.write_text(json.dumps(_row(1)) + "\n")
    uploaded = cloud.cli("files", "upload", str(source), "--expires", "2h")
    assert uploaded.returncode == 0, uploaded.stderr
    file = uploaded.stdout.strip()
    assert cloud.cli("files", "get", file, "-o", str(target)).returncode == 0
    assert target.read_bytes() == source.read_bytes()
    assert cloud.cli("files", "remove", file, "--yes").returncode == 0
    assert cloud.cli("files", "show", file).returncode == 1


def test_a_file_with_a_bad_line_is_refused_by_its_number(cloud: Cloud, tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text(json.dumps(_row(1)) + "\n{}\n")
    refused = cloud.cli("files", "upload", str(source))
    assert refused.returncode == 1
    assert "line 2" in refused.stderr.lower()


def test_bench_tells_speed_and_exactly_what_it_cost(cloud: Cloud) -> None:
    size = ("--prompt-tokens", "20", "--max-tokens", "8")
    for extra in ((), ("--no-stream",)):
        done = cloud.cli("bench", MODEL, "-n", "3", "-c", "2", *size, *extra, "--yes", "--json", timeout=120)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        told = json.loads(done.stdout)
        assert (told["requests"]["answered"], told["errors"], told["cost_not_told"]) == (3, {}, 0)
        assert 0 < Decimal(told["cost"]["amount"]) <= Decimal(told["highest_cost"]["amount"])
        assert told["tokens"]["completion"] > 0
        assert (told["first_token_ms"] is not None) == (not extra)

    def costs() -> bool:
        logged = _json(cloud, "requests", "list", "--model", MODEL, "--since", "10m", "--limit", "3")["data"]
        return sum(Decimal(one["cost"]["amount"]) for one in logged) == Decimal(told["cost"]["amount"])

    eventually_sync(costs)


def test_top_shows_the_load_of_each_endpoint(cloud: Cloud) -> None:
    rows = {row["name"]: row for row in _json(cloud, "endpoints", "top", "--once")["data"]}
    assert rows[MODEL]["status"] == "ready"
    assert rows[MODEL]["ready_replicas"] == 1
    assert {"in_flight", "waiting", "requests_per_minute", "tokens_per_second", "cold_starts"} <= rows[MODEL].keys()


def test_the_life_of_an_endpoint_of_ones_own(cloud: Cloud) -> None:
    priced = cloud.cli("endpoints", "create", "--model", MODEL, "--max", "1", "--dry-run", "--json")
    assert priced.returncode == 0, priced.stderr
    assert json.loads(priced.stdout)["charge_by"] == "time"
    made = cloud.cli("endpoints", "create", "--model", MODEL, "--name", "mine", "--max", "1", "--yes", timeout=120)
    assert made.returncode == 0, made.stderr
    assert cloud.cli("chat", "-m", "mine", "--max-tokens", "4", "Hello").returncode == 0
    assert cloud.cli("endpoints", "logs", "mine", "--tail", "5").returncode == 0
    scaled = _json(cloud, "endpoints", "scale", "mine", "--idle", "5m")
    assert scaled["idle_timeout_seconds"] == 300
    assert cloud.cli("endpoints", "drain", "mine").returncode == 0
    refused = cloud.cli("endpoints", "drain", "mine")
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: ")
    assert cloud.cli("endpoints", "remove", "mine", "--yes").returncode == 0
    assert cloud.cli("endpoints", "show", "mine").returncode == 1


def test_limits_of_a_project_and_an_organization(cloud: Cloud) -> None:
    shown = _json(cloud, "projects", "set", "default", "--concurrent", "50", "--log-content")
    assert (shown["limits"]["concurrent_requests"], shown["log_content"]) == (50, True)
    shown = _json(cloud, "projects", "set", "default", "--concurrent", "none", "--no-log-content")
    assert (shown["limits"]["concurrent_requests"], shown["log_content"]) == (None, False)
    assert _json(cloud, "organizations", "set", "demo", "--tier", "free")["tier"] == "free"
    assert _json(cloud, "organizations", "set", "demo", "--tier", "standard")["tier"] == "standard"


def _row(number: int) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Island {number}?"}], "max_tokens": 6}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def _json(cloud: Cloud, *arguments: str) -> dict[str, Any]:
    done = cloud.cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
