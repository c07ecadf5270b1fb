"""TLS and a new gateway for the old one, with the real processes: no stream is cut, nothing is refused."""

import asyncio
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.certificates import write_certificate
from tests.cloud import Cloud
from tests.e2e.reading import records
from tests.e2e.scripted import FakeUpstream, running_upstream
from tests.gateway.upstream import Exchange
from tests.waiting import eventually, eventually_sync

pytestmark = pytest.mark.cloud

MODEL = "scripted"
STREAMS = 4
ASKERS = 4
TOKENS = 120
PACE = 0.03


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of the certificate; as root, nobody else can enter it."""
    with tempfile.TemporaryDirectory(prefix="skc-tls-") as name:
        write_certificate(Path(name))
        yield Path(name)


@pytest.fixture(scope="module")
def cloud(folder: Path) -> Iterator[Cloud]:
    cloud = Cloud(tls_cert=str(folder / "skerry.crt"), tls_key=str(folder / "skerry.key"))
    try:
        yield cloud.start()
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def upstream(cloud: Cloud) -> Iterator[FakeUpstream]:
    with running_upstream() as fake:
        cloud.add_upstream(MODEL, fake.url)
        fake.default = paced
        yield fake


async def paced(exchange: Exchange) -> None:
    """As many tokens as asked for, over some seconds; plain answers at once."""
    if not exchange.body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        used = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        await exchange.json({"model": exchange.body["model"], "choices": [choice], "usage": used})
        return
    await exchange.stream_head()
    for _ in range(TOKENS):
        await asyncio.sleep(PACE)
        await exchange.token()
    await exchange.end(completion=TOKENS)


@dataclass
class Load:
    """Streams that last, and clients that ask again and again, each time on whatever connection they have."""

    cloud: Cloud
    key: str
    whole: list[str] = field(default_factory=list)
    """Request ids of streams that arrived whole."""
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": TOKENS}
        try:
            async with self._client() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
                text = "".join([piece async for piece in answer.aiter_text()])
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if text.endswith("data: [DONE]\n\n") and text.count("skua") == TOKENS:
            self.whole.append(answer.headers["x-request-id"])
        else:
            self.failed.append(text[-300:])

    async def ask(self, *, anew: bool) -> None:
        """`anew`: each request on a connection of its own."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        limits = httpx.Limits(max_keepalive_connections=0 if anew else 1)
        async with self._client(limits=limits) as http:
            while not self.ending.is_set():
                try:
                    answer = await http.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failed.append(answer.text)
                self.answered += 1

    def _client(self, **more: object) -> httpx.AsyncClient:
        headers = self.cloud.bearer(self.key)
        return httpx.AsyncClient(
            base_url=self.cloud.url, headers=headers, timeout=30, trust_env=False, verify=self.cloud.trust, **more
        )


def _shown(cloud: Cloud) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", cloud.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def _stored(folder: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder / "skerry.crt").read_text())


def _gateways(cloud: Cloud) -> list[int]:
    return [pid for pid, line in cloud.processes().items() if line.split()[1:4] == ["-m", "skerry.server", "gateway"]]


def test_the_port_speaks_https_and_nothing_else(cloud: Cloud, folder: Path) -> None:
    assert cloud.get("/healthz").json() == {"status": "ok"}
    assert _shown(cloud) == _stored(folder)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{cloud.port}/healthz", trust_env=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root has nobody to keep the key from")
def test_the_gateway_cannot_read_the_key_and_has_no_way_to_it(cloud: Cloud, folder: Path) -> None:
    assert (folder / "skerry.key").stat().st_mode & 0o077 == 0
    pid = cloud.pid("gateway")
    opened = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    assert not any("memfd:certificate" in name or "skerry.key" in name for name in opened)
    assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_cli_and_status_use_the_certificate(cloud: Cloud) -> None:
    done = cloud.cli("whoami")
    assert done.returncode == 0, done.stderr
    refused = cloud.cli("whoami", SKERRY_URL=cloud.url)
    assert refused.returncode != 0 and "certificate verify failed" in refused.stderr.lower()
    trusting = cloud.cli("whoami", SKERRY_URL=cloud.url, SKERRY_CA_CERT=cloud.environment["SKERRY_TLS_CERT"])
    assert trusting.returncode == 0, trusting.stderr
    assert '"ready": true' in cloud.server("status", "--json").stdout


async def test_streams_run_on_and_nothing_is_refused_while_the_gateway_is_replaced(
    cloud: Cloud, upstream: FakeUpstream, folder: Path
) -> None:
    key = cloud.new_key("reload")
    load = Load(cloud, key["key"])
    before = _gateways(cloud)
    streams = [asyncio.create_task(load.stream()) for _ in range(STREAMS)]
    askers = [asyncio.create_task(load.ask(anew=n % 2 == 0)) for n in range(ASKERS)]
    await eventually(lambda: load.answered >= 20 and len(upstream.seen) > 20)
    write_certificate(folder)
    cloud.trust.load_verify_locations(folder / "skerry.crt")
    done = await asyncio.to_thread(cloud.server, "reload")
    assert done.returncode == 0, done.stderr
    assert await asyncio.to_thread(_shown, cloud) == _stored(folder)
    answered = load.answered
    await eventually(lambda: load.answered >= answered + 50, 30)
    await asyncio.gather(*streams)
    load.ending.set()
    await asyncio.gather(*askers)
    assert load.failed == []
    assert len(set(load.whole)) == STREAMS
    charged = load.answered + STREAMS
    await eventually(lambda: len(records(cloud, key["id"])) == charged, 20)
    found = {record.id: record for record in records(cloud, key["id"])}
    assert [found[one].completion for one in load.whole] == [TOKENS] * STREAMS
    assert all(record.requests == 1 for record in found.values())
    await asyncio.to_thread(cloud.get, "/healthz")  # the last idle connection to the old one
    await eventually(lambda: not set(before) & set(_gateways(cloud)), 30)
    assert cloud.pid("gateway") not in before


def test_a_certificate_that_cannot_be_used_changes_nothing_and_is_named(cloud: Cloud, folder: Path) -> None:
    key, pid = folder / "skerry.key", cloud.pid("gateway")
    good, shown = key.read_bytes(), _shown(cloud)
    try:
        key.write_text("broken")
        done = cloud.server("reload")
        assert done.returncode == 1
        assert f"{key} has no private key in PEM form" in done.stderr and "Nothing was changed" in done.stderr
        assert (cloud.pid("gateway"), _shown(cloud)) == (pid, shown)
        assert "has no private key" in (cloud.home / "launcher.log").read_text()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)  # what is started next has the one that worked
        eventually_sync(lambda: cloud.pid("gateway") not in (None, pid), 30)
        eventually_sync(lambda: _shown(cloud) == shown, 30)
    finally:
        key.write_bytes(good)


async def test_one_that_is_told_to_end_is_followed_before_its_last_answer(cloud: Cloud, upstream: FakeUpstream) -> None:
    load = Load(cloud, cloud.project_key)
    pid, seen = cloud.pid("gateway"), len(upstream.seen)
    assert pid is not None
    streaming = asyncio.create_task(load.stream())
    await eventually(lambda: len(upstream.seen) > seen)
    os.kill(pid, signal.SIGTERM)
    async with load._client() as http:
        assert (await http.get("/healthz")).status_code == 200
    assert not streaming.done() and Path(f"/proc/{pid}").exists(), "it still finishes its stream"
    await streaming
    assert load.failed == []
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), 20)
