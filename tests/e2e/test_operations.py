"""Looking after it: readiness, metrics, status, logs, the command line, and starts that cannot be."""

import json
import socket
import subprocess
import sys
from decimal import Decimal
from uuid import uuid4

import httpx
import pytest

from tests.cloud import MODEL, ROLES, START_SECONDS, Cloud, eventually_equal
from tests.waiting import eventually_sync

pytestmark = pytest.mark.cloud


def test_ready_says_so_to_all_and_why_to_operators(cloud: Cloud) -> None:
    bare = cloud._client.get("/readyz")
    assert bare.status_code == 200
    assert bare.json() == {"status": "ready"}
    parts = cloud.get("/readyz").json()["parts"]
    assert {part["part"] for part in parts} >= {"database", "engine", "endpoints"}
    assert cloud._client.get("/healthz").status_code == 200


def test_metrics_are_for_operators_and_of_all_roles(cloud: Cloud) -> None:
    assert cloud._client.get("/metrics").status_code == 401
    assert cloud.get("/metrics", cloud.project_key).status_code == 403
    page = cloud.get("/metrics").text
    for role in ("gateway", "server", "controller", "shipper"):
        assert f'role="{role}"' in page, role
    for family in (
        "skerry_gateway_answers_total", "skerry_gateway_tokens_total", "skerry_gateway_queue",
        "skerry_gateway_replicas_ready", "skerry_journal_lag_seconds", "skerry_api_requests_total",
        "skerry_reconcile_steps_total",
    ):  # fmt: skip
        assert f"# TYPE {family} " in page, family


def test_status_names_every_process(cloud: Cloud) -> None:
    done = cloud.cli("status", "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["url"] == cloud.url
    assert status["ready"] is True
    assert status["version"]
    assert {row["role"] for row in status["processes"]} == set(ROLES)
    assert {row["pid"] for row in status["processes"]} <= set(cloud.processes())


def test_chat_usage_and_costs_on_the_command_line(cloud: Cloud) -> None:
    key = cloud.new_key("command line", "inference", "read", "billing")
    asked = cloud.cli("chat", "--json", "--max-tokens", "6", "Hello", SKERRY_API_KEY=key["key"], SKERRY_URL=cloud.url)
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["content"]

    def requests() -> int:
        rows = json.loads(cloud.cli("usage", "--json", "--group-by", "key").stdout)["data"]
        return sum(row["quantity"] for row in rows if row["key"] == key["id"] and row["meter"] == "requests")

    eventually_equal(requests, 1, 30)
    costs = json.loads(cloud.cli("costs", "--json", "--group-by", "key").stdout)["data"]
    billed = sum(Decimal(row["billed_cost"]["amount"]) for row in costs if row["key"] == key["id"])
    assert billed == Decimal(answer["skerry"]["cost"])


def test_chat_streams_to_the_terminal_with_figures(cloud: Cloud) -> None:
    done = cloud.cli("chat", "--max-tokens", "4", "--model", MODEL, "Hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "tokens" in done.stderr


def test_logs_metrics_and_database_hold_neither_keys_nor_prompts(cloud: Cloud) -> None:
    marker = f"skua{uuid4().hex}"
    key = cloud.new_key("discreet")["key"]
    words = [{"role": "user", "content": f"Say {marker}"}]
    client = cloud.sdk(key)
    client.chat.completions.create(model=MODEL, messages=words, max_tokens=2)
    list(client.chat.completions.create(model=MODEL, messages=words, max_tokens=2, stream=True))
    # Errors are where words leak.
    headers = cloud.bearer(key)
    for body in ({"model": marker, "messages": words}, {"model": MODEL, "messages": words, "temperature": marker}):
        assert cloud._client.post("/v1/chat/completions", json=body, headers=headers).status_code in (400, 404)
    cloud._client.post("/v1/chat/completions", content=f'{{"model": "{marker}'.encode(), headers=headers)
    cloud._client.post("/api/v1/api-keys", json={"name": [marker]}, headers=headers)
    cloud._client.get("/v1/models", headers={"authorization": f"Bearer sk-{marker}"})
    logs = cloud.logs()
    assert any(path.endswith("gateway.log") for path in logs)
    for path, text in (*logs.items(), ("/metrics", cloud.get("/metrics").text)):
        for secret in (marker, key, cloud.operator_key, cloud.project_key):
            assert secret not in text, f"{path} tells {secret}"
    stored = cloud.query("SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'")
    assert stored[0][0] > 10
    journal = b"".join(path.read_bytes() for path in cloud.settings.journal.rglob("*") if path.is_file())
    assert marker.encode() not in journal
    assert key.encode() not in journal


def test_second_start_in_the_same_home_is_refused_in_one_line(cloud: Cloud) -> None:
    done = cloud.server("up", "--port", str(cloud.port), "--detach")
    assert done.returncode == 2
    line = [text for text in done.stderr.splitlines() if text.strip()]
    assert len(line) == 1
    assert "in use" in line[0]
    assert cloud.get("/readyz").status_code == 200


def test_taken_port_is_refused_in_one_line_and_leaves_nothing() -> None:
    other = Cloud()
    try:
        with socket.create_server(("127.0.0.1", other.port)):
            done = other.server("up", "--port", str(other.port), "--detach")
        assert done.returncode == 2
        line = [text for text in done.stderr.splitlines() if text.strip()]
        assert len(line) == 1
        assert str(other.port) in line[0]
        other.expect_nothing_left(2)
    finally:
        other.close()


def test_down_and_status_where_nothing_runs() -> None:
    other = Cloud()
    try:
        assert other.server("down").returncode == 0
        done = other.server("status", "--json")
        assert done.returncode == 3
        assert json.loads(done.stdout)["ready"] is False
    finally:
        other.close()


def test_sigterm_ends_a_cloud_in_the_foreground_and_leaves_nothing() -> None:
    """Without the model, which would only take time."""
    other = Cloud(default_model="0")
    child = None
    try:
        command = [sys.executable, "-m", "skerry.server", "up", "--port", str(other.port)]
        with (other.home / "out.log").open("wb") as log:
            child = subprocess.Popen(command, env=other.environment, stdout=log, stderr=log)
        eventually_sync(lambda: _answers(other), START_SECONDS)
        child.terminate()
        assert child.wait(30) == 0
        other.expect_nothing_left(1)
    finally:
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        other.close()


def _answers(cloud: Cloud) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", cloud.port)):
            return False
    try:
        return cloud._client.get("/healthz").status_code == 200
    except httpx.TransportError:  # the port is open before anybody answers on it
        return False
