"""Secrets, lists, logs and the HTTP routes."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from skerry.compute.engines.base import EndCause
from skerry.compute.errors import UnknownRank
from skerry.compute.model import Outcome, WorkloadKind, WorkloadStatus
from skerry.compute.routes import router
from skerry.compute.tables import workloads
from skerry.db.database import Database
from skerry.identity.model import Principal, Scope
from skerry.kernel.clock import FakeClock
from skerry.kernel.errors import Forbidden, SkerryError
from skerry.kernel.ids import KeyId, OrganizationId, ProjectId, WorkloadId
from skerry.kernel.paging import PageRequest
from skerry.runtime.tables import outbox
from tests.compute.controlling import PROJECT, Control
from tests.compute.fake_engine import FakeEngine


@pytest.fixture
def engine(clock: FakeClock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
async def control(database: Database, clock: FakeClock, engine: FakeEngine) -> Control:
    control = Control.over(database, clock, engine)
    await control.discover()
    return control


class AccessOf:
    """A door that lets in whoever the test says."""

    def __init__(self, project: ProjectId = PROJECT, scopes: frozenset[Scope] = frozenset({Scope.READ})) -> None:
        self.principal = Principal(KeyId("key_1"), "k", OrganizationId("org_1"), project, scopes)

    def project(self, *scopes: Scope):
        async def gate() -> Principal:
            if not set(scopes) <= self.principal.scopes:
                raise Forbidden("the key lacks a scope")
            return self.principal

        return gate


@pytest.fixture
async def client(control: Control) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router(control.compute, AccessOf()), prefix="/mine")
    app.include_router(router(control.compute, AccessOf(ProjectId("proj_other"))), prefix="/theirs")
    app.include_router(router(control.compute, AccessOf(scopes=frozenset({Scope.INFERENCE}))), prefix="/scopeless")

    async def answer(_request, error: SkerryError):
        return httpx_response(error)

    def httpx_response(error: SkerryError):
        from fastapi.responses import JSONResponse

        return JSONResponse({"code": error.code}, status_code=error.status)

    app.add_exception_handler(SkerryError, answer)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_secret_files_are_stored_encrypted_only(control: Control) -> None:
    workload = await control.create(files={"key": "a very secret thing"})
    async with control.db.reading() as tx:
        row = (await tx.execute(select(workloads).where(workloads.c.id == workload.id))).one()
    assert row.files.startswith("v1:")
    assert "a very secret thing" not in json.dumps(dict(row._mapping), default=str)
    assert "files" not in row.spec


async def test_whoever_made_it_is_told_of_every_change(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB))
    async with control.db.reading() as tx:
        messages = (await tx.execute(select(outbox).order_by(outbox.c.id))).all()
    assert {message.topic for message in messages} == {"workload"}
    assert [message.payload["status"] for message in messages] == ["pending", "starting", "running"]
    assert messages[-1].payload == {
        "workload": workload.id,
        "project": PROJECT,
        "resource": "ep_test",
        "status": "running",
        "attempt": engine.submitted[0].attempt,
    }


async def test_lists_are_newest_first_and_filtered(control: Control) -> None:
    first = await control.create(name="a", resource="ep_1")
    second = await control.create(name="b", resource="ep_2", kind=WorkloadKind.JOB)
    async with control.db.reading() as tx:
        page = await control.compute.list(tx, PROJECT, PageRequest(limit=1))
        assert [workload.id for workload in page.data] == [second.id] and page.has_more
        rest = await control.compute.list(tx, PROJECT, PageRequest.parse(1, page.next_cursor))
        assert [workload.id for workload in rest.data] == [first.id] and not rest.has_more
        by_resource = await control.compute.list(tx, PROJECT, PageRequest(), resource="ep_1")
        by_kind = await control.compute.list(tx, PROJECT, PageRequest(), kind=WorkloadKind.JOB)
        by_status = await control.compute.list(tx, PROJECT, PageRequest(), status=WorkloadStatus.ENDED)
    assert [w.id for w in by_resource.data] == [first.id]
    assert [w.id for w in by_kind.data] == [second.id]
    assert by_status.data == ()


async def test_logs_before_the_start_are_empty(control: Control) -> None:
    workload = await control.create()
    chunk = await control.compute.logs(PROJECT, workload.id)
    assert (chunk.data, chunk.ended) == (b"", False)
    with pytest.raises(UnknownRank):
        await control.compute.logs(PROJECT, workload.id, rank=1)


async def test_following_ends_with_the_attempt(control: Control, engine: FakeEngine) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, max_restarts=0))
    engine.log = b"one\n"
    heard = b""
    async for data in control.compute.follow_logs(PROJECT, workload.id):
        heard += data
        if heard == b"one\n":
            engine.log = b"one\ntwo\n"
        if heard == b"one\ntwo\n":
            engine.end(engine.submitted[0].attempt, Outcome.FAILED, EndCause.EXITED)
            control.clock.advance(seconds=31)
            await control.settle(workload)
    assert heard == b"one\ntwo\n"


# Routes


async def test_routes_show_workload_attempts_and_logs(
    control: Control, engine: FakeEngine, client: httpx.AsyncClient
) -> None:
    workload = await control.settle(await control.create(kind=WorkloadKind.JOB, max_restarts=0))
    engine.log = b"<script>alert(1)</script>\n"
    engine.end(engine.submitted[0].attempt, Outcome.LOST, EndCause.SIGNALLED, 137, "ended by a SIGKILL")
    control.clock.advance(seconds=31)
    await control.settle(workload)

    shown = (await client.get(f"/mine/workloads/{workload.id}")).json()
    assert {name: shown[name] for name in ("kind", "status", "desired", "charge_by", "outcome")} == {
        "kind": "job",
        "status": "ended",
        "desired": "stop",
        "charge_by": "time",
        "outcome": "lost",
    }
    assert shown["status_reason"]["code"] == "failed" and "SIGKILL" in shown["status_reason"]["message"]
    assert "command" not in shown and "env" not in shown

    listed = (await client.get("/mine/workloads", params={"kind": "job"})).json()
    assert [row["id"] for row in listed["data"]] == [workload.id] and not listed["has_more"]

    attempts = (await client.get(f"/mine/workloads/{workload.id}/attempts")).json()["data"]
    assert [(a["n"], a["nodes"], a["outcome"], a["exit_code"], a["our_fault"]) for a in attempts] == [
        (1, ["local-1"], "lost", 137, True)
    ]
    assert attempts[0]["ended_at"].endswith("Z")

    logs = await client.get(f"/mine/workloads/{workload.id}/logs", params={"offset": 1, "limit": 6})
    assert logs.text == "script"
    assert logs.headers["content-type"].startswith("text/plain")
    assert logs.headers["x-content-type-options"] == "nosniff" and logs.headers["content-disposition"]
    assert (logs.headers["skerry-log-offset"], logs.headers["skerry-log-next"]) == ("1", "7")
    followed = await client.get(f"/mine/workloads/{workload.id}/logs", params={"follow": "true"})
    assert followed.content == engine.log


@pytest.mark.parametrize("path", ["", "/attempts", "/logs", "/logs?follow=true"])
async def test_routes_keep_projects_apart(control: Control, client: httpx.AsyncClient, path: str) -> None:
    workload = await control.create()
    theirs = await client.get(f"/theirs/workloads/{workload.id}{path}")
    assert (theirs.status_code, theirs.json()["code"]) == (404, "unknown_workload")
    assert (await client.get(f"/scopeless/workloads/{workload.id}{path}")).status_code == 403
    assert (await client.get("/theirs/workloads")).json()["data"] == []


async def test_bad_input_is_refused_in_words(control: Control, client: httpx.AsyncClient) -> None:
    workload = await control.create()
    for query in ("rank=-1", "offset=-1", "limit=0", "rank=x", "offset=99999999999999999999"):
        assert (await client.get(f"/mine/workloads/{workload.id}/logs?{query}")).status_code == 422
    assert (await client.get(f"/mine/workloads/{workload.id}/logs?rank=1")).status_code == 404
    assert (await client.get(f"/mine/workloads/{WorkloadId('wl_none')}")).status_code == 404
    assert (await client.get("/mine/workloads?after=nonsense")).status_code == 400
    assert (await client.get("/mine/workloads?limit=0")).status_code == 422
