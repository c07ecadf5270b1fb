"""`/api/v1/node` over HTTP, on a real database: an attempt gets its own, and nobody gets anything else."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from skerry.artifacts.files.routes import openai_router
from skerry.compute.engines.base import BadGang
from skerry.compute.isolation import IsolationUnavailable
from skerry.compute.model import Attempt, Drop, Mount, MountKind, Workload, WorkloadKind, WorkloadSpec
from skerry.compute.nodes.artifacts import PART_BYTES
from skerry.compute.nodes.tokens import NodeCaller, NodeTokens
from skerry.compute.nodes.users import ProjectUsers
from skerry.compute.store import WorkloadStore
from skerry.compute.tables import attempts
from skerry.compute.task.order import ORDER_FILE, TOKEN_FILE, ProjectUser, SandboxWish, TaskOrder
from skerry.db.database import Database
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import AttemptId, IdFactory, ProjectId, new_id
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.app import _answer_errors, create_app
from skerry.server.compose import Services, build
from tests.artifacts.test_archives import tar

SPEC = WorkloadSpec(kind=WorkloadKind.JOB, name="job", resource="job_x", command=("python", "t.py"), customer_code=True)


@dataclass
class Node:
    """A control plane, a running attempt of the demo project, and a client that speaks for its node."""

    services: Services
    clock: FakeClock
    workload: Workload
    attempt: Attempt
    tokens: NodeTokens
    http: httpx.AsyncClient
    customer: str

    def token(self, **changes: str) -> str:
        caller = NodeCaller(self.workload.project, self.workload.id, self.attempt.id)
        return self.tokens.issue(replace(caller, **changes))

    async def call(self, method: str, path: str, token: str | None = None, **more: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {token or self.token()}", **more.pop("headers", {})}  # type: ignore[dict-item]
        return await self.http.request(method, f"/api/v1/node/{path}", headers=headers, **more)  # type: ignore[arg-type]

    async def end(self) -> None:
        async with self.services.db.transaction() as tx:
            ended = update(attempts).where(attempts.c.id == self.attempt.id).values(ended_at=self.clock.now())
            await tx.execute(ended)


@pytest.fixture
async def node(database: Database, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Node]:
    keyring = Keyring([("k1", b"a secret of sixteen bytes and more")])
    settings = Settings(tmp_path, tmp_path, files_keep_free_bytes=0, artifacts_quota_bytes=10_000_000)
    services = build(settings, database, keyring, clock)
    bootstrap = await services.identity.bootstrap()
    async with database.transaction() as tx:
        project = (await services.identity.default_project(tx)).id
    workload, attempt = await running(services, project, SPEC)
    app = FastAPI(redirect_slashes=False)  # all of it takes a second to make
    app.include_router(services.nodes.router, prefix="/api/v1")
    app.include_router(openai_router(services.files, services.access), prefix="/v1")
    _answer_errors(app, services)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://skerry") as http:
        yield Node(services, clock, workload, attempt, NodeTokens(keyring, clock), http, bootstrap.project_key or "")


async def running(
    services: Services, project: ProjectId, spec: WorkloadSpec, ids: IdFactory = new_id
) -> tuple[Workload, Attempt]:
    async with services.db.transaction() as tx:
        workload = await services.compute.create_workload(tx, project, spec)
        attempt = Attempt(
            id=AttemptId(ids("att")), workload=workload.id, project=project, n=1, engine="embedded", nodes=("here",),
            accelerators=1, devices=(), created_at=services.clock.now(),
        )  # fmt: skip
        await WorkloadStore().insert_attempt(tx, attempt)
    return workload, attempt


async def upload(node: Node, data: bytes, purpose: str = "source") -> httpx.Response:
    form = {"data": {"purpose": purpose}, "files": {"file": ("code.tar.gz", data)}}
    return await node.http.post("/v1/files", headers={"authorization": f"Bearer {node.customer}"}, **form)  # type: ignore[arg-type]


# Who gets in


CALLS = [
    ("POST", "token"), ("GET", "source"), ("GET", "artifacts"), ("GET", "artifacts/x"), ("PUT", "artifacts/x"),
    ("DELETE", "artifacts/x"),
]  # fmt: skip


async def test_only_the_token_of_an_open_attempt_opens(node: Node) -> None:
    foreign = NodeTokens(Keyring([("k1", b"the secret of another installation")]), node.clock)
    caller = NodeCaller(node.workload.project, node.workload.id, node.attempt.id)
    wrong = {
        "an API key": node.customer,
        "another installation's": foreign.issue(caller),
        "an attempt that is not there": node.token(attempt="att_none"),
        "another project's": node.token(project="proj_other"),
        "another workload's": node.token(workload="wl_other"),
        "a lapsed one": node.token(),
    }
    node.clock.advance(hours=1)
    wrong["one of a workload that has ended"] = node.token()
    for method, path in CALLS:
        fine = await node.call(method, path)
        assert fine.status_code in (200, 404), fine.text
    await node.end()
    for method, path in CALLS:
        for what, token in wrong.items():
            answer = await node.call(method, path, token)
            assert (answer.status_code, token in answer.text) == (401, False), (method, path, what)
        assert (await node.http.request(method, f"/api/v1/node/{path}")).status_code == 401
        assert (await node.call(method, path)).json()["code"] == "attempt_ended"


async def test_a_token_is_renewed_for_an_hour(node: Node) -> None:
    node.clock.advance(minutes=50)
    old = node.token()
    node.clock.advance(minutes=50)
    renewed = (await node.call("POST", "token", old)).json()
    node.clock.advance(minutes=50)
    assert (await node.call("POST", "token", old)).status_code == 401
    assert (await node.call("POST", "token", renewed["token"])).status_code == 200
    assert renewed["expires_in"] == 3600


async def test_in_the_whole_application_it_stands_apart(node: Node) -> None:
    """What is no text gets through to it, nobody reads of it, and its tokens open nothing else."""
    app = create_app(node.services, node.services.settings)
    shown = [route for route in app.routes if getattr(route, "include_in_schema", False)]
    assert not [route for route in shown if getattr(route, "path", "").startswith("/api/v1/node/")]
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://skerry") as http:
        mine = replace(node, http=http)
        data = bytes(range(256)) * 10_000
        assert (await mine.call("PUT", "artifacts/x", content=data)).status_code == 200
        assert (await mine.call("GET", "artifacts/x")).content == data
        assert (await mine.call("PUT", "artifacts/x", content=bytes(PART_BYTES + 1))).status_code == 413
        for path in ("/api/v1/whoami", "/api/v1/workloads", "/v1/files"):
            answer = await http.get(path, headers={"authorization": f"Bearer {node.token()}"})
            assert answer.status_code == 401


# Sources


async def test_a_source_is_streamed_by_ranges(node: Node) -> None:
    data = tar(("train.py", bytes(range(256)) * 4000)).getvalue()
    file = (await upload(node, data)).json()
    assert file["status"] == "processed"
    workload, attempt = await running(node.services, node.workload.project, replace(SPEC, source=file["id"]))
    mine = replace(node, workload=workload, attempt=attempt)
    whole = await mine.call("GET", "source")
    assert (whole.status_code, whole.content) == (200, data)
    rest = await mine.call("GET", "source", headers={"range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, data[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
    assert (await mine.call("GET", "source", headers={"range": f"bytes={len(data)}-"})).status_code == 416
    assert (await node.call("GET", "source")).json()["code"] == "no_source"


async def test_an_unsafe_source_is_refused_at_its_upload(node: Node) -> None:
    answer = await upload(node, tar("ok", "../evil").getvalue())
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "path_outside" and "../evil" in error["message"] and error["param"] == "file"


# Artifacts


async def test_what_a_node_leaves_is_there_for_the_next_attempt(node: Node) -> None:
    first, second = b"a" * PART_BYTES, b"b" * 100
    path = "artifacts/step_5/__0_0.distcp"
    assert (await node.call("PUT", f"{path}?last=0", content=first)).json() == {"bytes": PART_BYTES}
    assert (await node.call("GET", "artifacts")).json() == {"data": []}, "half a file is none"
    again = await node.call("PUT", f"{path}?offset=7", content=second)
    assert (again.status_code, again.json()["offset"]) == (409, PART_BYTES)
    assert (await node.call("PUT", f"{path}?offset={PART_BYTES}", content=second)).status_code == 200
    assert (await node.call("PUT", "artifacts/step_5/.metadata", content=b"m")).status_code == 200

    await node.end()
    async with node.services.db.transaction() as tx:
        later = replace(node.attempt, id=AttemptId(new_id("att")), n=2)
        await WorkloadStore().insert_attempt(tx, later)
    mine = replace(node, attempt=later)
    found = (await mine.call("GET", "artifacts?prefix=step_5/")).json()["data"]
    assert [one["path"] for one in found] == ["step_5/.metadata", "step_5/__0_0.distcp"]
    tail = await mine.call("GET", path, headers={"range": f"bytes={PART_BYTES - 1}-"})
    assert (tail.status_code, tail.content) == (206, b"a" + second)
    assert (await mine.call("DELETE", "artifacts/step_5")).status_code == 200
    assert (await mine.call("GET", "artifacts")).json() == {"data": []}


async def test_workloads_do_not_see_each_other_s(node: Node) -> None:
    await node.call("PUT", "artifacts/x", content=b"mine")
    workload, attempt = await running(node.services, node.workload.project, SPEC)
    other = replace(node, workload=workload, attempt=attempt)
    assert (await other.call("GET", "artifacts")).json() == {"data": []}
    assert (await other.call("GET", "artifacts/x")).json()["code"] == "unknown_artifact"


async def test_paths_that_lead_elsewhere_are_refused(node: Node) -> None:
    deep, long = "/".join("d" * 17), "n" * 201
    for path in ("a//b", "../x", "a/../../x", "%2e%2e/x", ".drafts/x", "a b", "a%00b", deep, "é", long, "."):
        answer = await node.call("PUT", f"artifacts/{path}", content=b"x")
        assert answer.status_code in (400, 401, 404, 405), (path, answer.text)


async def test_there_is_a_quota_and_a_largest_part(node: Node) -> None:
    assert (await node.call("PUT", "artifacts/x", content=bytes(PART_BYTES + 1))).status_code == 413
    for number in range(2):
        assert (await node.call("PUT", f"artifacts/f{number}", content=bytes(PART_BYTES))).status_code == 200
    full = await node.call("PUT", "artifacts/f2", content=bytes(PART_BYTES))
    assert (full.status_code, full.json()["code"]) == (413, "artifact_quota_exceeded")
    assert (await node.call("PUT", "artifacts/f1", content=bytes(PART_BYTES))).status_code == 200, "in its own place"


# What a node is told


async def test_an_order_has_all_that_the_node_needs_and_no_more(node: Node) -> None:
    data = tar("t.py").getvalue()
    file = (await upload(node, data)).json()
    mount = Mount(MountKind.CHECKPOINTS, "job_x", "/checkpoints")
    spec = replace(SPEC, source=file["id"], mounts=(mount,), env={"WANDB": "secret"})
    workload, attempt = await running(node.services, node.workload.project, spec)
    made = await node.services.nodes.contexts.wrap(workload, attempt, {"mine.json": "{}"})
    assert made.command[1:] == ("-I", "-m", "skerry.compute.task") and made.drop is Drop.NEVER
    assert made.env == {} and set(made.files) == {"mine.json", ORDER_FILE, TOKEN_FILE}
    assert node.tokens.read(made.files[TOKEN_FILE]) == NodeCaller(workload.project, workload.id, attempt.id)
    order = TaskOrder.from_json(made.files[ORDER_FILE])
    assert order.env == {"WANDB": "secret"} and made.files[TOKEN_FILE] not in made.files[ORDER_FILE]
    assert order.source is not None and order.source.sha256 == hashlib.sha256(data).hexdigest()
    assert order.mounts[0].path.endswith(f"/checkpoints/{workload.project}/job_x")
    assert order.user == ProjectUser("skerry-p1", 300_001)
    assert order.sandbox is SandboxWish.WANTED and order.network, "the demo project is trusted"


async def test_a_source_that_was_deleted_is_said_before_anything_starts(node: Node) -> None:
    file = (await upload(node, tar("t.py").getvalue())).json()
    workload, attempt = await running(node.services, node.workload.project, replace(SPEC, source=file["id"]))
    await node.http.delete(f"/v1/files/{file['id']}", headers={"authorization": f"Bearer {node.customer}"})
    with pytest.raises(BadGang, match="was deleted"):
        await node.services.nodes.contexts.wrap(workload, attempt, {})


async def test_each_project_has_its_number_for_ever(database: Database) -> None:
    async with database.transaction() as tx:
        users = ProjectUsers(500_000)
        first, second = await users.of(tx, ProjectId("proj_a")), await users.of(tx, ProjectId("proj_b"))
        assert (first.uid, second.uid) == (500_001, 500_002)
        assert await users.of(tx, ProjectId("proj_a")) == first


async def test_untrusted_code_needs_an_engine_that_isolates(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    isolation = node.services.nodes.isolation
    async with node.services.db.transaction() as tx:
        trusted = await node.services.identity.default_project(tx)
    for isolates, allowed in ((False, False), (True, True), (None, True)):
        monkeypatch.setattr(isolation, "_isolates", {} if isolates is None else {"embedded": isolates})
        monkeypatch.setattr(isolation, "look", _nothing)
        monkeypatch.setattr(isolation, "trusted", _untrusted)
        async with node.services.db.transaction() as tx:
            assert bool(await isolation.engines_for(tx, trusted.id, SPEC)) is allowed
            assert await isolation.engines_for(tx, trusted.id, replace(SPEC, customer_code=False))
            if allowed:
                await isolation.require(tx, trusted.id)
            else:
                with pytest.raises(IsolationUnavailable):
                    await isolation.require(tx, trusted.id)


async def _nothing() -> None:
    pass


async def _untrusted(*_: object) -> bool:
    return False
