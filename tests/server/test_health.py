"""Alive, ready, metrics: who sees what."""

import asyncio

from skerry.runtime import telemetry
from skerry.server.health import Health
from skerry.server.telemetry import ServerMetrics

TOKEN = "Bearer the-token-of-the-metrics"


async def test_healthz_needs_nothing(nobody):
    assert (await nobody.get("/healthz")).json() == {"status": "ok"}


async def test_readyz_tells_reasons_to_operators_alone(nobody, customer, operator):
    for client in (nobody, customer):
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "not_ready"})
        assert answer.headers["retry-after"]
    seen = (await operator.get("/readyz")).json()
    assert {"part": "database", "ready": True, "reason": None} in seen["parts"]
    assert "agent" in seen["reasons"]["engine"] and "database" not in seen["reasons"]


async def test_readyz_is_200_when_all_parts_are(cloud, nobody, monkeypatch):
    async def fine():
        return None

    monkeypatch.setattr(cloud.services.health, "parts", {"database": fine, "engine": fine})
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_a_part_that_hangs_is_a_reason(monkeypatch):
    monkeypatch.setattr("skerry.server.health._CHECK_SECONDS", 0.01)

    async def hangs():
        await asyncio.Event().wait()

    assert "no answer" in (await Health({"engine": hangs}).reasons())["engine"]


async def test_metrics_need_an_operator_or_the_token(nobody, customer, operator):
    assert (await nobody.get("/metrics")).status_code == 401
    assert (await customer.get("/metrics")).json()["code"] == "missing_scope"
    for answer in (await operator.get("/metrics"), await nobody.get("/metrics", headers={"authorization": TOKEN})):
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_metrics_join_all_roles_and_name_no_customer(settings, cloud, operator, monkeypatch):
    from skerry.server.app import create_app

    metrics = ServerMetrics()
    app = create_app(cloud.services, settings, metrics)
    server = await telemetry.serve(metrics.registry, telemetry.socket_path(settings.run, "server", 1))
    cloud.app = app
    async with cloud.client(cloud.project_key) as client:
        await client.get("/api/v1/projects/proj_of_a_customer")
        await client.get("/secret-path-of-a-customer")
    page = (await operator.get("/metrics")).text
    server.close()
    assert (
        'skerry_api_requests_total{role="server",method="GET",route="/api/v1/projects/{id}",status="404"} 1.0' in page
    )
    assert "of_a_customer" not in page and "of-a-customer" not in page


async def test_an_operator_is_still_known_while_the_database_is_away(cloud, operator, monkeypatch):
    from skerry.db.errors import DatabaseUnavailable

    await operator.get("/readyz")

    async def away(_):
        raise DatabaseUnavailable

    monkeypatch.setattr(cloud.services.identity, "authenticate", away)
    assert "reasons" in (await operator.get("/readyz")).json()
    async with cloud.client("sk-" + "x" * 48) as other:
        assert (await other.get("/readyz")).json() == {"status": "not_ready"}
