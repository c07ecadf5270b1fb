import asyncio
import socket
import time
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from skerry.runtime import telemetry


def registry(requests, queue=None):
    registry = CollectorRegistry()
    Counter("skerry_requests", "Requests.\nBoth kinds.", ["code"], registry=registry).labels(code='2"0}0').inc(requests)
    if queue is not None:
        Gauge("skerry_queue", "Waiting.", registry=registry).set(queue)
    return registry


@asynccontextmanager
async def serving(folder, **registries):
    servers = [
        await telemetry.serve(each, telemetry.socket_path(folder, *owner.rsplit("_", 1)))
        for owner, each in registries.items()
    ]
    try:
        yield
    finally:
        for server in servers:
            server.close()


async def joined(folder):
    return await telemetry.join(telemetry.sockets(folder))


def samples(text, name):
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_processes_are_told_apart_by_role(tmp_path):
    async with serving(tmp_path, gateway_1=registry(3, queue=7), server_2=registry(4)):
        text = await joined(tmp_path)
    assert samples(text, "skerry_requests_total") == {
        (("code", '2"0}0'), ("role", "gateway")): 3,
        (("code", '2"0}0'), ("role", "server")): 4,
    }
    assert samples(text, "skerry_queue") == {(("role", "gateway"),): 7}
    assert text.count("# HELP skerry_requests_total") == text.count("# TYPE skerry_requests_total") == 1


async def test_several_of_one_role_are_told_apart_by_pid(tmp_path):
    async with serving(tmp_path, gateway_1=registry(1, 1), gateway_2=registry(2, 2)):
        text = await joined(tmp_path)
    assert samples(text, "skerry_queue") == {
        (("pid", "1"), ("role", "gateway")): 1,
        (("pid", "2"), ("role", "gateway")): 2,
    }


async def test_histograms_stay_whole(tmp_path):
    one = CollectorRegistry()
    Histogram("skerry_seconds", "Time.", buckets=(0.1, 1), registry=one).observe(0.5)
    async with serving(tmp_path, gateway_1=one, server_2=one):
        text = await joined(tmp_path)
    [family] = [f for f in text_string_to_metric_families(text) if f.name == "skerry_seconds"]
    assert family.type == "histogram"
    assert sum(sample.value for sample in family.samples if sample.name == "skerry_seconds_count") == 2


async def test_dead_and_silent_processes_are_left_out_within_a_second(tmp_path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "metrics-server-8.sock"))
    dead.close()
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "metrics-server-9.sock"))
    silent.listen()
    (tmp_path / "metrics-readme.sock").touch()
    begun = time.monotonic()
    async with serving(tmp_path, gateway_1=registry(1, 5)):
        text = await joined(tmp_path)
    silent.close()
    assert samples(text, "skerry_queue") == {(("role", "gateway"),): 5}
    assert time.monotonic() - begun < 20


async def test_a_socket_left_by_a_dead_process_is_taken_over(tmp_path):
    path = telemetry.socket_path(tmp_path, "gateway", 1)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with serving(tmp_path, gateway_1=registry(1, 5)):
        assert "skerry_queue" in await joined(tmp_path)


async def test_one_who_goes_away_while_it_is_answered_disturbs_nobody(tmp_path):
    async with serving(tmp_path, gateway_1=registry(1, 5)):
        for _ in range(5):
            _, writer = await asyncio.open_unix_connection(telemetry.socket_path(tmp_path, "gateway", 1))
            writer.transport.abort()
        assert "skerry_queue" in await joined(tmp_path)


async def test_nobody_there_is_an_empty_page(tmp_path):
    assert await joined(tmp_path) == ""
