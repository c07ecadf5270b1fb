"""What a tenant cannot reach: fields that are the engine's own, admin routes, others' endpoints, anybody's secrets."""

import io
import json
import logging

import httpx
import pytest
import structlog

from skerry.runtime import log
from tests.gateway.harness import KEY, key, route, running
from tests.gateway.upstream import upstream, usage
from tests.gateway.wire import CHAT, backend, exchange, sized

MESSAGES = [{"role": "user", "content": "hi"}]
FIELDS = {
    "lora": [{"id": 0, "scale": 1.0}],
    "lora_path": "/etc/passwd",
    "lora_request": {"lora_name": "x", "lora_int_id": 1, "lora_path": "/srv/other"},
    "adapter": "other",
    "id_slot": 3,
    "slot_id": 3,
    "cache_prompt": True,
    "cache_salt": "other-project",
    "n_cache_reuse": 256,
    "cache_reuse": 256,
    "kv_transfer_params": {"do_remote_prefill": True, "remote_host": "10.0.0.1"},
    "kv_unified": True,
    "kv_cache_dtype": "fp8",
    "n_keep": -1,
    "n_predict": 10**9,
    "samplers": ["top_k"],
    "return_tokens": True,
    "timings_per_token": True,
    "post_sampling_probs": True,
    "grammar_path": "/etc/passwd",
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"x": 1},
    "documents": [{"text": "x"}],
    "mm_processor_kwargs": {"x": 1},
    "bad_words": ["x"],
    "prompt_embeds": "AAAA",
    "vllm_xargs": {"x": 1},
    "priority": -100,
    "request_id": "mine",
    "data_parallel_rank": 1,
    "echo_path": "x",
    "path": "../../etc/passwd",
    "model_path": "/etc/passwd",
    "__proto__": {"x": 1},
    "nobody_knows_this": 1,
    "": 1,
}
NESTED = {
    "in a message": {"messages": [{"role": "user", "content": "hi", "lora": "x"}]},
    "in a part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {}}]}]},
    "a file's part": {"messages": [{"role": "user", "content": [{"type": "file", "file": {"path": "/etc/passwd"}}]}]},
    "a picture by path": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]
    },
    "in stream options": {"stream": True, "stream_options": {"include_usage": True, "id_slot": 1}},
    "in the response format": {"response_format": {"type": "text", "grammar_path": "/etc/passwd"}},
    "in a tool": {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {}}]},
}
TRICKS = [
    "/slots", "/props", "/metrics", "/health", "/lora-adapters", "/v1/load_lora_adapter", "/tokenize", "/shutdown",
    "/sleep", "/server_info", "/v1/../slots", "/v1/../../slots", "/v1/chat/completions/../../props",
    "/v1/chat/completions/../../../slots", "/v1/chat/completions/..;/slots", "//slots", "//v1/chat/completions",
    "/v1//chat/completions", "/v1/./chat/completions", "/./v1/chat/completions", "/v1/chat/completions/",
    "/v1/chat/completions%2f..%2f..%2fslots", "/v1/chat/completions/%2e%2e/%2e%2e/slots", "/%2e%2e/slots",
    "/v1/%2e%2e/slots", "/v1%2fchat%2fcompletions", "/v1/chat%2fcompletions", "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0aGET%20/slots", "/v1/chat/completions;a=b", "/V1/chat/completions", "/v1\\..\\slots",
    "/v1/chat/completions\\..\\..\\slots", "/v1/chat/completions/slots", "/slots?/v1/chat/completions",
    "/v1/slots/0?action=erase", "/slots/0?action=restore&filename=..%2f..%2fx", "/models/load", "/models/unload",
]  # fmt: skip
ON_PATH = ["/v1/chat/completions?path=/slots", "/v1/chat/completions?/../../slots", "/v1/chat/completions?a=b%0d%0ax:y"]
SECRET = "replica-key"
"""What `harness.route` gives its replicas."""


@pytest.fixture
def walled_log():
    """All that is logged, as the gateway's process logs it."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    log.configure("gateway", "info", stream)
    yield stream.getvalue
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)
    structlog.reset_defaults()


# --- fields
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("name", FIELDS)
async def test_fields_that_are_not_openais_are_refused_by_name(client, fake, path, name):
    body = {"model": "fake", name: FIELDS[name]} | ({"messages": MESSAGES} if "chat" in path else {"prompt": "hi"})
    answer = await client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert name in answer.json()["error"]["message"]
    assert fake.seen == []


@pytest.mark.parametrize("name", NESTED)
async def test_fields_further_inside_are_refused_too(client, fake, name):
    answer = await client.post("/v1/chat/completions", json={"model": "fake", "messages": MESSAGES} | NESTED[name])
    assert answer.status_code == 400, answer.text
    assert fake.seen == []


async def test_a_field_twice_is_not_read_two_ways(bench, client, fake):
    """What we check is what the engine gets: it is written anew."""
    raw = b'{"model":"nowhere","messages":[{"role":"user","content":"hi"}],"model":"fake"}'
    answer = await client.post("/v1/chat/completions", content=raw)
    assert answer.status_code == 200
    assert [exchange.body["model"] for exchange in fake.seen] == ["fake"]


@pytest.mark.parametrize(
    "model", ["../fake", "fake/../fake", "fake:adapter", "fake\u0000", "FAKE", " fake", "/etc/passwd", ""]
)
async def test_models_are_names_and_nothing_is_looked_up_by_them(client, fake, model):
    answer = await client.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES})
    assert answer.status_code in (400, 404) and fake.seen == []


async def test_what_goes_upstream_is_on_the_list_and_the_name_is_the_routes(client, bench, fake):
    bench.routes(route(fake.url, upstream="weights-v2"))
    body = {
        "model": "fake",
        "messages": MESSAGES,
        "temperature": 0.5,
        "user": "me",
        "metadata": {"a": "b"},
        "store": True,
    }
    assert (await client.post("/v1/chat/completions", json=body, headers={"x-lora": "y", "x-api-key": "z"})).is_success
    sent = fake.seen[0]
    assert set(sent.body) == {"model", "messages", "temperature"} and sent.body["model"] == "weights-v2"
    assert set(sent.headers) <= {"host", "authorization", "content-type", "content-length", "traceparent"}
    assert sent.headers["authorization"] == f"Bearer {SECRET}"


# --- routes
@pytest.mark.parametrize("target", TRICKS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_admin_routes_of_a_replica_are_reached_by_no_path(target, method):
    async with backend() as replica, backend() as server, running(server_url=server.url) as bench:
        bench.routes(route(f"{replica.url}/v1"))
        raw = sized(CHAT, b"connection: close\r\n").replace(
            b"POST /v1/chat/completions", f"{method} {target}".encode(), 1
        )
        answers = await exchange(bench.port, raw, half_close=False)
        assert len(answers) == 1 and replica.arrivals == []
        assert [arrival.target for arrival in server.arrivals] in ([], [target])


@pytest.mark.parametrize("target", ON_PATH)
async def test_queries_do_not_go_upstream(target):
    async with backend() as replica, running() as bench:
        bench.routes(route(f"{replica.url}/v1"))
        raw = sized(CHAT, b"connection: close\r\n").replace(b"/v1/chat/completions", target.encode(), 1)
        answers = await exchange(bench.port, raw, half_close=False)
        assert [answer.status for answer in answers] == [200]
        assert [(arrival.method, arrival.target) for arrival in replica.arrivals] == [("POST", "/v1/chat/completions")]


# --- other tenants
async def test_another_projects_endpoint_does_not_exist(bench, client, fake):
    bench.routes(route(fake.url), route(fake.url, name="theirs", project="proj_2"))
    bench.keys(key(), key("sk-theirs", project="proj_2"))
    body = {"model": "theirs", "messages": MESSAGES}
    answer = await client.post("/v1/chat/completions", json=body)
    nowhere = await client.post("/v1/chat/completions", json={**body, "model": "nowhere"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert answer.text.replace("theirs", "nowhere") == nowhere.text, "not even that it is there can be told"
    assert fake.seen == []
    theirs = await client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-theirs"})
    assert theirs.status_code == 200


# --- secrets
async def _echo(exchange, status: int) -> None:
    """An upstream that tells everything it was told."""
    said = f"key {exchange.headers['authorization']} was not good enough"
    head = f"HTTP/1.1 {status} X\r\nx-key: {SECRET}\r\nset-cookie: session={SECRET}\r\nwww-authenticate: {said}\r\n"
    body = json.dumps({"error": {"message": said, "param": SECRET, "code": SECRET, "type": SECRET}}).encode()
    await exchange.send(head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstreams_key_is_in_no_answer_and_no_log(client, fake, walled_log, status, stream):
    fake.default = lambda exchange: _echo(exchange, status)
    answer = await client.post("/v1/chat/completions", json={"model": "fake", "messages": MESSAGES, "stream": stream})
    assert answer.status_code >= 400
    assert SECRET not in answer.text and SECRET not in str(answer.headers)
    words = walled_log()
    assert SECRET not in words and KEY not in words


async def test_headers_of_a_replica_stay_inside(client, fake):
    async def chatty(exchange):
        said = json.dumps({"choices": [{"index": 0, "message": {"content": "x"}}], "usage": usage()}).encode()
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nserver: llama.cpp\r\nx-key: replica-key\r\nset-cookie: a=b\r\n"
            b"access-control-allow-origin: *\r\nconnection: x-key\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said)
        )

    fake.default = chatty
    answer = await client.post("/v1/chat/completions", json={"model": "fake", "messages": MESSAGES})
    assert answer.status_code == 200
    assert not {"server", "x-key", "set-cookie", "access-control-allow-origin"} & set(answer.headers)


async def test_a_replica_that_is_gone_is_not_named(bench, client, walled_log):
    bench.routes(route("http://127.0.0.1:1/v1/secret-place"))
    answer = await client.post("/v1/chat/completions", json={"model": "fake", "messages": MESSAGES})
    assert answer.status_code == 503
    assert "secret-place" not in answer.text and "127.0.0.1" not in answer.text and SECRET not in walled_log()


async def test_a_clients_key_is_in_no_log_and_goes_to_no_replica(bench, fake, walled_log):
    async with httpx.AsyncClient(verify=False, base_url=bench.url) as http:
        for sent in (KEY, "sk-wrong-and-secret"):
            await http.post(
                "/v1/chat/completions",
                json={"model": "fake", "messages": MESSAGES},
                headers={"authorization": f"Bearer {sent}", "x-api-key": sent},
            )
    assert len(fake.seen) == 1 and KEY not in str(fake.seen[0].headers)
    words = walled_log()
    assert KEY not in words and "sk-wrong-and-secret" not in words


async def test_connections_to_a_shared_upstream_carry_one_project_each():
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))
        bench.keys(key(), key("sk-other", project="proj_2"))
        async with httpx.AsyncClient(verify=False, base_url=bench.url) as http:
            for secret in (KEY, "sk-other", KEY, "sk-other"):
                answer = await http.post(
                    "/v1/chat/completions",
                    json={"model": "fake", "messages": MESSAGES},
                    headers={"authorization": f"Bearer {secret}"},
                )
                assert answer.is_success
        assert len({id(exchange.writer) for exchange in fake.seen}) == 2
