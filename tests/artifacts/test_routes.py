"""The catalogue over HTTP."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from skerry.artifacts.routes import router
from skerry.identity.access import Access
from skerry.kernel.errors import SkerryError
from tests.artifacts.gguf_files import write


@pytest.fixture
async def http(catalogue, identity):
    app = FastAPI()
    app.include_router(router(catalogue, Access(identity)), prefix="/api/v1")

    @app.exception_handler(SkerryError)
    async def answer(request: Request, error: SkerryError) -> JSONResponse:
        return JSONResponse({"code": error.code, "detail": error.detail}, error.status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_a_model_comes_and_goes(http, people, tmp_path: Path):
    operator, customer = bearer(people.operator_secret), bearer(people.customer_secret)
    path = str(write(tmp_path / "a.gguf"))
    body = {"name": "org/near", "source": {"path": path}, "price": {"prompt": "0.10", "completion": "0.30"}}
    made = await http.post("/models", json=body, headers=operator)
    assert made.status_code == 201, made.text
    assert made.json()["source"] == {
        "kind": "path", "path": path, "hub": None, "upstream": None, "upstream_model": None, "upstream_key_set": None,
        "upstreams": None,
    }  # fmt: skip
    seen = (await http.get("/models/org/near", headers=customer)).json()
    assert seen["context_length"] == 2048
    assert seen["source"]["path"] is None, "customers are not told of the operator's disk"
    assert len((await http.get("/models", headers=customer)).json()["data"]) == 1
    events = (await http.get("/models/org/near/events", headers=customer)).json()["data"]
    assert [event["type"] for event in events] == ["model.created"]
    assert (await http.delete("/models/org/near", headers=customer)).status_code == 403
    gone = await http.delete("/models/org/near", headers=operator)
    assert gone.json()["status"] == "removed"
    assert (await http.get("/models/org/near", headers=operator)).status_code == 404


async def test_an_upstream_key_is_never_shown(http, people):
    operator = bearer(people.operator_secret)
    source = {"upstream": "http://far.example", "upstream_key": "hush-hush", "upstream_model": "gpt"}
    made = await http.post("/models", json={"name": "far", "source": source}, headers=operator)
    shown = await http.get("/models/far", headers=operator)
    assert "hush" not in made.text + shown.text
    assert shown.json()["source"]["upstream_key_set"] is True
    assert shown.json()["source"]["upstream"] == "http://far.example/v1"


async def test_a_canary_over_http(http, people):
    operator = bearer(people.operator_secret)
    upstreams = [
        {"url": "http://a.example", "weight": 95},
        {"url": "http://b.example", "key": "hush-hush", "weight": 5},
    ]
    made = await http.post("/models", json={"name": "pair", "source": {"upstreams": upstreams}}, headers=operator)
    assert made.status_code == 201, made.text
    assert "hush" not in made.text
    assert made.json()["source"]["upstreams"] == [
        {"url": "http://a.example/v1", "key_set": False, "weight": 95},
        {"url": "http://b.example/v1", "key_set": True, "weight": 5},
    ]
    seen = (await http.get("/models/pair", headers=bearer(people.customer_secret))).json()
    assert seen["source"]["upstreams"] is None
    body = {"name": "other", "source": {"upstreams": upstreams}}
    assert (await http.post("/models", json=body, headers=bearer(people.customer_secret))).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "source": {}},
        {"name": "a", "source": {"path": "/a", "hub": "b"}},
        {"name": "a", "source": {"upstreams": []}},
        {"name": "a", "source": {"upstreams": [{"url": "http://a.example", "weight": 0}]}},
        {"name": "a", "source": {"upstreams": [{"url": "http://a.example", "weight": -1}]}},
        {"name": "a", "source": {"upstreams": [{"url": "http://a.example"}], "upstream": "http://b.example"}},
        {"name": "a", "source": {"upstreams": [{"url": "http://a.example"}], "upstream_key": "k"}},
        {"name": "a", "source": {"path": "/a", "upstream_key": "b"}},
        {"name": "a", "source": {"hub": "a/b"}},
        {"name": "a", "source": {"path": "/nowhere"}},
        {"name": "a", "source": {"path": "relative"}},
        {"name": "ft:a", "source": {"upstream": "http://far.example"}},
        {"name": "a", "source": {"upstream": "ftp://far.example"}},
        {"name": "a", "engine": "llamacpp", "source": {"upstream": "http://far.example"}},
        {"name": "a", "source": {"upstream": "http://far.example"}, "context_length": 0},
        {"name": "a", "source": {"upstream": "http://far.example"}, "price": {"prompt": "-1"}},
        {"name": "a", "source": {"upstream": "http://far.example"}, "price": {"prompt": "1e3"}},
        {"name": "a", "source": {"upstream": "http://far.example"}, "price": {"prompt": "NaN"}},
        {"name": "a", "source": {"upstream": "http://far.example"}, "price": {"prompt": 1.5}},
        {"name": "a", "source": {"upstream": "http://far.example"}, "prize": {}},
    ],
)
async def test_what_is_wrong_is_a_422(http, people, body):
    answer = await http.post("/models", json=body, headers=bearer(people.operator_secret))
    assert answer.status_code == 422, answer.text
