"""The OpenAPI document is the truth: the server role, over a socket, does what it says, whatever it is sent."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import booleans
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from skerry.server.context import RoleContext
from skerry.server.roles import server as role
from tests.server.starting import bootstrapped, keyring
from tests.waiting import eventually_sync

SEED = 20260101
EXAMPLES = 5
"""For each operation and each of two keys."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
UNREADY = {"/readyz"}
"""503 is its honest answer here: there is no engine."""


@pytest.fixture
def keys(settings, database_url) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a running server role, and its keys by name."""
    made = bootstrapped(settings, database_url)
    opened = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{opened.getsockname()[1]}"
    with running(RoleContext(settings, keyring(), database_url, server_socket=opened)):
        yield address, {"operator": made.operator_key, "project": made.project_key}


@contextmanager
def running(context: RoleContext) -> Iterator[None]:
    """The server role in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(role.run(context)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(context.stopping.set)
        thread.join(20)
        assert not thread.is_alive(), "the role did not stop"
        loop.close()


@pytest.mark.parametrize("who", ["operator", "project"])
def test_every_operation_keeps_to_its_document(keys, who):
    address, secrets = keys
    config = schemathesis.Config(seed=SEED)
    config.projects.default.generation.update(with_security_parameters=False)
    api = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config, timeout=60)
    headers = {"authorization": f"Bearer {secrets[who]}"}
    things = _things(address, secrets["project"])
    tried = 0
    for result in api.get_all_operations():
        operation = result.ok()
        if operation.path in UNREADY:
            continue

        @seed(SEED)
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), real=booleans())
        def check(case, real):
            if real:
                _aim(case, things)
            case.call_and_validate(checks=CHECKS, headers=headers)

        check()
        tried += 1
    print(f"seed {SEED}: {tried} operations, {EXAMPLES} examples each, as {who}")
    assert tried > 25


def test_the_document_names_every_error_and_the_idempotency_key(cloud):
    api = cloud.app.openapi()
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            assert {"400", "401", "403", "404", "409", "413", "422", "429", "503"} <= set(operation["responses"])
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert ("Idempotency-Key" in names) == (method == "post" and path.startswith("/api/v1/")), (method, path)
    assert "HTTPValidationError" not in api["components"]["schemas"]


async def test_operation_ids_are_unique(cloud):
    ids = [o["operationId"] for methods in cloud.app.openapi()["paths"].values() for o in methods.values()]
    assert len(ids) == len(set(ids))


async def test_the_reference_lists_every_operation_and_loads_nothing_from_elsewhere(cloud, nobody):
    page = await nobody.get("/docs")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    for path in cloud.app.openapi()["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text


async def test_the_landing_page_points_the_way(nobody):
    page = await nobody.get("/")
    assert (
        page.status_code == 200
        and "/docs" in page.text
        and "default-src 'none'" in page.headers["content-security-policy"]
    )


def test_the_role_serves_on_a_unix_socket_and_stops_when_told(settings, database_url):
    settings.run.mkdir(exist_ok=True)
    context = RoleContext(settings, keyring(), database_url)
    with running(context):
        transport = httpx.HTTPTransport(uds=str(settings.server_socket), retries=50)
        with httpx.Client(transport=transport, base_url="http://server") as client:
            assert _patiently(client, "/healthz").json() == {"status": "ok"}
            assert client.get("/api/v1/whoami").status_code == 401


def _things(address: str, key: str) -> dict[str, str]:
    """Something that exists in each collection, so that not all that is tried is unknown."""
    with httpx.Client(verify=False, base_url=f"{address}/api/v1", headers={"authorization": f"Bearer {key}"}) as client:
        whoami = client.get("/whoami").json()
        bodies = {
            "service-accounts": {"name": "robot"},
            "members": {"email": "ada@example.org", "role": "owner"},
            "api-keys": {"name": "robot", "scopes": ["read"]},
        }
        made = {name: client.post(f"/{name}", json=body).json()["id"] for name, body in bodies.items()}
    return {"projects": whoami["project_id"], "organizations": whoami["organization_id"], **made}


def _aim(case: schemathesis.Case, things: dict[str, str]) -> None:
    """Point a case at something that exists, in the caller's own project."""
    collection = case.operation.path.removeprefix("/api/v1/").partition("/")[0]
    for name in case.path_parameters or ():
        if collection in things:
            case.path_parameters[name] = things[collection]
    for name in ("project", "organization"):
        (case.query or {}).pop(name, None)


def _patiently(client: httpx.Client, path: str) -> httpx.Response:
    answers: list[httpx.Response] = []

    def answered() -> bool:
        try:
            answers.append(client.get(path))
        except httpx.TransportError:
            return False
        return True

    eventually_sync(answered)
    return answers[0]
