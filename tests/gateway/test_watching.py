"""What a gateway leaves behind of an answer for those who watch: figures, timings, traces, content."""

import json
from dataclasses import replace

import httpx
import pytest

from skerry.inference.gateway.collector import GatewayCollector
from skerry.inference.requests.content import ContentSealer
from skerry.inference.requests.spans import spans_of
from skerry.runtime.journal.reader import Position, read_batch
from skerry.runtime.journal.records import ContentRecord
from skerry.runtime.secrets import Keyring
from tests.gateway.harness import KEY, key, route

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "a canary"}], "max_tokens": 5}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def sealer() -> ContentSealer:
    return ContentSealer(Keyring([("k1", b"a secret of the tests")]))


def contents(bench) -> list[ContentRecord]:
    return [record for record in read_batch(bench.folder, Position()).records if isinstance(record, ContentRecord)]


async def test_timings_of_a_stream_are_in_its_record(bench, client):
    await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    (record,) = bench.records()
    assert record.stream and record.kind == "chat"
    assert 0 < record.first_us <= record.t1 - record.t0
    names = [span.name for span in spans_of(record)]
    assert names[-3:] == ["replica", "first_token", "stream"]


async def test_an_endpoint_s_figures_grow_with_its_answers(bench, client):
    await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    await client.post("/v1/chat/completions", json=CHAT)
    figures = bench.gateway.metrics.routes["ep_fake"]
    assert (figures.streams, figures.plain, figures.prompt, figures.completion) == (1, 1, 18, 6)
    assert (sum(figures.first.counts), sum(figures.gap.counts), sum(figures.queue.counts)) == (1, 1, 2)
    assert figures.last_minute(figures.now())[0] == 2


async def test_a_dedicated_endpoint_is_known_by_its_id_alone(bench, client, fake):
    bench.routes(route(fake.url, project="proj_1", name="acme-secret"))
    answer = await client.post("/v1/chat/completions", json=CHAT | {"model": "acme-secret"})
    assert answer.status_code == 200
    assert bench.gateway.metrics.routes["ep_acme-secret"].model == ""
    collected = GatewayCollector(bench.gateway.metrics, [], dict).collect()
    labels = {value for family in collected for sample in family.samples for value in sample.labels.values()}
    assert "ep_acme-secret" in labels and "acme-secret" not in labels


async def test_a_client_s_trace_is_in_the_record(bench, client):
    await client.post("/v1/chat/completions", json=CHAT, headers={"traceparent": TRACEPARENT})
    (record,) = bench.records()
    assert spans_of(record)[0].trace == int(TRACEPARENT[3:35], 16)


@pytest.mark.parametrize("header", ["x" * 200, "not a trace", "00-" + "0" * 52])
async def test_a_wrong_traceparent_is_no_reason_to_refuse(bench, client, header):
    answer = await client.post("/v1/chat/completions", json=CHAT, headers={"traceparent": header})
    assert answer.status_code == 200
    (record,) = bench.records()
    assert spans_of(record)[0].parent is None


@pytest.mark.parametrize("stream", [False, True])
async def test_content_is_written_sealed_where_the_project_wants_it(bench, client, sealer, stream):
    bench.gateway._sealer = sealer
    bench.keys(replace(key(), log_content=True))
    answer = await client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    (record,), (content,) = bench.records(), contents(bench)
    assert b"canary" not in content.sealed
    assert content.id == record.id and abs(content.at - record.t1) < 10_000_000
    said = sealer.open(record.id, record.project, content.sealed)
    assert json.loads(said.request)["messages"] == CHAT["messages"]
    assert said.answer and said.answer[:40] in answer.content


async def test_content_is_nobody_s_where_the_project_does_not(bench, client, sealer):
    bench.gateway._sealer = sealer
    await client.post("/v1/chat/completions", json=CHAT)
    assert contents(bench) == []


async def test_one_project_s_wish_is_not_another_s(bench, client, sealer):
    bench.gateway._sealer = sealer
    bench.keys(replace(key(), log_content=True), key("sk-other", project="proj_2"))
    async with httpx.AsyncClient(
        verify=False, base_url=bench.url, headers={"authorization": "Bearer sk-other"}
    ) as other:
        await other.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {KEY}"})
    assert {content.project for content in contents(bench)} == {"proj_1"}
