"""`/v1/files` over HTTP, as OpenAI's clients speak it."""

import asyncio
import hashlib
import json
from dataclasses import replace
from uuid import uuid4

import httpx
import openai
import pytest
import pytest_asyncio

from skerry.artifacts.files.model import FileLimits
from skerry.db.database import Database
from skerry.kernel.clock import FakeClock
from skerry.server.compose import build
from tests.artifacts.files.filing import stored
from tests.conftest import _admin, _with_database
from tests.server.conftest import settings_in, started
from tests.server.starting import keyring

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB, MIB = 1024, 1024 * 1024


def row(number: int, **changes) -> bytes:
    body = {"model": "smol", "messages": [{"role": "user", "content": "hi"}]}
    line = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changes
    return json.dumps(line).encode() + b"\n"


ROWS = b"".join(row(number) for number in range(3))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_cloud(server_url, template_database, tmp_path_factory):
    """For all tests of this module, with small limits, far above those of other bodies."""
    name = f"skerry_test_{uuid4().hex[:12]}"
    _admin(server_url, "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database)
    db = Database(_with_database(server_url, name), pool_size=4, name="skerry-test")
    settings = replace(
        settings_in(tmp_path_factory.mktemp("home")),
        max_file_bytes=2 * MIB,
        files_quota_bytes=5 * MIB,
        files_quota_count=50,
        files_keep_free_bytes=0,
    )
    yield await started(build(settings, db, keyring(), FakeClock()), settings)
    await db.close()
    _admin(server_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest_asyncio.fixture(loop_scope="module")
async def cloud(one_cloud):
    """As it was at first: without a file."""
    yield one_cloud
    async with one_cloud.client(one_cloud.project_key) as client:
        for file in (await client.get("/v1/files")).json()["data"]:
            await client.delete(f"/v1/files/{file['id']}")


@pytest_asyncio.fixture(loop_scope="module")
async def customer(cloud):
    async with cloud.client(cloud.project_key) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def operator(cloud):
    async with cloud.client(cloud.operator_key) as client:
        yield client


@pytest.fixture
def clock(cloud):
    return cloud.services.clock


async def send(client, data=ROWS, filename="rows.jsonl", **fields) -> httpx.Response:
    return await client.post(
        "/v1/files", data={"purpose": "batch", **fields}, files={"file": (filename, data, "application/jsonl")}
    )


async def made(client, *args, **more) -> dict:
    answer = await send(client, *args, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_file_in_openai_s_shape(customer, clock):
    now = int(clock.now().timestamp())
    file = await made(customer, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(ROWS),
        "created_at": now,
        "expires_at": now + 3600,
        "filename": "rows.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
        "sha256": hashlib.sha256(ROWS).hexdigest(),
    }
    assert file["id"].startswith("file-")
    assert (await customer.get(f"/v1/files/{file['id']}")).json() == file
    gone = await customer.delete(f"/v1/files/{file['id']}")
    assert gone.json() == {"id": file["id"], "object": "file", "deleted": True}
    missing = await customer.get(f"/v1/files/{file['id']}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_file")


async def test_the_official_client_uploads_lists_reads_and_deletes(cloud, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    transport = httpx.ASGITransport(cloud.app)
    async with httpx.AsyncClient(transport=transport) as inner:
        client = openai.AsyncOpenAI(
            base_url="http://cloud/v1", api_key=cloud.project_key, http_client=inner, max_retries=0
        )
        with path.open("rb") as opened:
            file = await client.files.create(
                file=opened, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
            )
        assert (file.bytes, file.filename, file.status) == (len(ROWS), "rows.jsonl", "processed")
        assert [one.id async for one in client.files.list(purpose="batch", limit=1)] == [file.id]
        assert (await client.files.content(file.id)).content == ROWS
        assert (await client.files.delete(file.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(file.id)


async def test_fields_may_come_after_the_file(customer):
    """As the client for Node sends them."""
    parts = [("file", ("rows.jsonl", ROWS)), ("purpose", (None, "batch"))]
    answer = await customer.post("/v1/files", files=parts)
    assert (answer.status_code, answer.json()["purpose"]) == (200, "batch")
    parts[0] = ("file", ("rows.jsonl", b"{}\n"))
    answer = await customer.post("/v1/files", files=parts)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (ROWS + b"{\n", "invalid_json_line", "Line 4"),
        (ROWS + b"[]\n", "invalid_request", "Line 4"),
        (ROWS + row(9, method="GET"), "invalid_method", "Line 4"),
        (ROWS + row(9, url="/v1/files"), "mismatched_endpoint", "Line 4"),
        (ROWS + row(9, body=[]), "invalid_request", "Line 4"),
        (ROWS + row(9, custom_id=""), "invalid_custom_id", "Line 4"),
        (ROWS + row(1), "duplicate_custom_id", "line 2"),
        (b"", "empty_file", "no rows"),
        (b"\n \n", "empty_file", "no rows"),
    ],
)
async def test_a_batch_file_that_cannot_run_is_refused_and_the_line_named(customer, data, code, words):
    answer = await send(customer, data)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"], error["type"]) == (
        400, code, "file", "invalid_request_error",
    )  # fmt: skip
    assert words in error["message"]
    assert (await customer.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "-1"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 30}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"lora": "x"}, "lora"),
    ],
)
async def test_fields_that_are_wrong_are_named(customer, fields, param):
    answer = await send(customer, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert (await customer.get("/v1/files")).json()["data"] == []


async def test_a_list_in_openai_s_shape(customer, clock):
    ids = []
    for _ in range(3):
        ids.append((await made(customer))["id"])
        clock.advance(seconds=1)
    page = (await customer.get("/v1/files?limit=2")).json()
    assert page["object"] == "list"
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[2], ids[1], True)
    page = (await customer.get(f"/v1/files?limit=2&after={ids[1]}")).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([ids[0]], False)
    page = (await customer.get("/v1/files?order=asc&purpose=batch")).json()
    assert [file["id"] for file in page["data"]] == ids
    page = (await customer.get("/v1/files?purpose=batch_output")).json()
    assert (page["data"], page["first_id"], page["last_id"], page["has_more"]) == ([], None, None, False)
    for query in ("limit=0", "limit=10001", "order=up", "after=file-nonsense"):
        answer = await customer.get(f"/v1/files?{query}")
        assert answer.status_code == 400, query
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_content_is_an_attachment_and_ranges_are_served(customer):
    file = await made(customer, filename="evil page.html")
    url = f"/v1/files/{file['id']}/content"
    whole = await customer.get(url)
    assert whole.content == ROWS
    headers = whole.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''evil%20page.html"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-length"] == str(len(ROWS))
    for range_, expected in (("bytes=3-9", ROWS[3:10]), ("bytes=-5", ROWS[-5:]), ("bytes=7-", ROWS[7:])):
        part = await customer.get(url, headers={"range": range_})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(ROWS)}")
    current = await customer.get(url, headers={"range": "bytes=0-1", "if-range": headers["etag"]})
    assert current.status_code == 206
    stale = await customer.get(url, headers={"range": "bytes=0-1", "if-range": '"another"'})
    assert (stale.status_code, stale.content) == (200, ROWS)
    outside = await customer.get(url, headers={"range": f"bytes={len(ROWS)}-"})
    assert (outside.status_code, outside.json()["error"]["code"]) == (416, "range_not_satisfiable")


async def test_a_file_may_be_larger_than_other_bodies(customer, cloud):
    data = b"".join(row(number, body={"model": "m", "input": "x" * 8000}) for number in range(200))
    assert len(data) > 20 * cloud.services.settings.max_body_bytes
    assert (await made(customer, data))["bytes"] == len(data)
    too_much = await customer.post("/api/v1/api-keys", content=data)
    assert too_much.status_code == 413


@pytest.mark.parametrize(("length", "code"), [(4 * MIB, "too_large"), (3 * MIB, "file_too_large")])
async def test_too_large_a_file_is_refused_before_it_is_read(customer, length, code):
    sent = [0]
    headers = {"content-length": str(length), "content-type": "multipart/form-data; boundary=b"}
    answer = await customer.post("/v1/files", content=chunked(length, sent, FORM_HEAD), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, code)
    assert sent[0] == 0


async def chunked(total: int, sent: list[int], head: bytes):
    yield head
    while sent[0] < total:
        sent[0] += 256 * KIB
        yield b" " * (256 * KIB - 1) + b"\n"


FORM_HEAD = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
)


async def test_too_large_a_file_is_refused_while_it_comes(customer, cloud):
    sent = [0]
    answer = await customer.post(
        "/v1/files",
        content=chunked(20 * MIB, sent, FORM_HEAD),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert sent[0] <= 3 * MIB
    assert not stored(cloud.services.settings.files)


async def test_beyond_the_quota_of_bytes(customer):
    data = row(0, body={"model": "m", "input": "x" * (2 * MIB - 4 * KIB)})
    for _ in range(2):
        await made(customer, data)
    answer = await send(customer, data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "files_quota_exceeded")
    assert "Delete files" in answer.json()["error"]["message"]


async def test_beyond_the_quota_of_files(customer, cloud, monkeypatch):
    monkeypatch.setattr(cloud.services.files, "limits", FileLimits(2 * MIB, 5 * MIB, 1))
    await made(customer)
    answer = await send(customer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_files")
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("application/json", b'{"purpose": "batch"}', "not_multipart"),
        ("multipart/form-data; boundary=b", FORM_HEAD + ROWS, "truncated"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "missing"),
        ("multipart/form-data; boundary=b", FORM_HEAD.split(b"--b")[2] + b"--b--", "bad_form"),
    ],
)
async def test_a_form_that_is_none(customer, kind, body, code, cloud):
    answer = await customer.post("/v1/files", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert not stored(cloud.services.settings.files)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(cloud, logs):
    messages = [
        {"type": "http.request", "body": FORM_HEAD + ROWS, "more_body": True},
        {"type": "http.request", "body": row(7) * 3000, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    answers = []

    async def send_(message):
        answers.append(message)

    await cloud.app(scope(cloud), receive, send_)
    assert answers[0]["status"] == 400
    assert not stored(cloud.services.settings.files)
    assert not [line for line in logs if line["event"] == "request_failed"]
    async with cloud.client(cloud.project_key) as client:
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_a_client_that_falls_silent_is_not_waited_for(cloud, monkeypatch):
    monkeypatch.setattr("skerry.artifacts.files.routes.STALLED_SECONDS", 0.05)
    messages = [{"type": "http.request", "body": FORM_HEAD + ROWS, "more_body": True}]

    async def receive():
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()

    answers = []

    async def send_(message):
        answers.append(message)

    await cloud.app(scope(cloud), receive, send_)
    assert json.loads(answers[1]["body"])["error"]["code"] == "upload_stalled"
    assert not stored(cloud.services.settings.files)


def scope(cloud) -> dict:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/files",
        "raw_path": b"/v1/files",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"authorization", f"Bearer {cloud.project_key}".encode()),
            (b"content-type", b"multipart/form-data; boundary=b"),
        ],
        "client": None,
        "server": None,
    }


async def test_another_project_sees_nothing_of_a_file(cloud, operator, customer):
    file = await made(customer)
    await operator.post("/api/v1/projects", json={"name": "strange", "organization": "demo"})
    terms = {"name": "stranger", "scopes": ["inference", "read", "write", "billing"]}
    key = (await operator.post("/api/v1/api-keys?project=strange", json=terms)).json()["key"]
    async with cloud.client(key) as stranger:
        for method, path in (
            ("GET", f"/v1/files/{file['id']}"),
            ("GET", f"/v1/files/{file['id']}/content"),
            ("DELETE", f"/v1/files/{file['id']}"),
            ("GET", f"/v1/files/{file['id']}?project=demo/default"),
            ("GET", f"/api/v1/files/{file['id']}/events"),
        ):
            answer = await stranger.request(method, path)
            assert answer.status_code in (403, 404), (method, path, answer.text)
        assert (await stranger.get("/v1/files")).json()["data"] == []
        assert (await stranger.get(f"/v1/files?after={file['id']}")).status_code == 400
    assert (await customer.get(f"/v1/files/{file['id']}/content")).content == ROWS
    events = (await customer.get(f"/api/v1/files/{file['id']}/events")).json()["data"]
    assert [event["type"] for event in events] == ["file.processed"]
    assert [one["id"] for one in (await operator.get("/v1/files?project=demo/default")).json()["data"]] == [file["id"]]


async def test_a_key_without_the_scope_is_refused_before_the_body_is_read(cloud, customer):
    made_key = await customer.post("/api/v1/api-keys", json={"name": "reader", "scopes": ["read"]})
    sent = [0]
    async with cloud.client(made_key.json()["key"]) as reader:
        answer = await reader.post(
            "/v1/files",
            content=chunked(20 * MIB, sent, FORM_HEAD),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
    assert (answer.status_code, sent[0]) == (403, 0)
