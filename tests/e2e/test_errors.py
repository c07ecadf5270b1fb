"""Each refusal arrives as the SDK's own exception, and says what is wrong."""

from collections.abc import Callable

import openai
import pytest

from tests.cloud import MODEL, Cloud
from tests.e2e.conftest import SCRIPTED
from tests.e2e.scripted import FakeUpstream

pytestmark = pytest.mark.cloud

ASK = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 99}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1_000_000}, "max_tokens"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"top_p": "much"}, "top_p"),
        ({"extra_body": {"mirostat": 2}}, "mirostat"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_request_names_the_parameter(cloud: Cloud, change: dict, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        cloud.sdk().chat.completions.create(**{"model": MODEL, "messages": ASK, "max_tokens": 2, **change})
    assert caught.value.param is not None
    assert caught.value.param.split(".")[0].split("[")[0] == param
    assert caught.value.code


def test_too_long_prompt_names_both_numbers(cloud: Cloud) -> None:
    long = [{"role": "user", "content": "bird " * 9000}]
    with pytest.raises(openai.BadRequestError, match=r"90\d\d.*8192") as caught:
        cloud.sdk().chat.completions.create(model=MODEL, messages=long, max_tokens=2)
    assert caught.value.code == "context_length_exceeded"


def test_unknown_model_lists_those_there_are(cloud: Cloud) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
        cloud.sdk().chat.completions.create(model="gpt-x", messages=ASK)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_unknown_key_is_an_authentication_error(cloud: Cloud) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        cloud.sdk("sk-" + "x" * 48).chat.completions.create(model=MODEL, messages=ASK)
    assert caught.value.code == "unknown_key"


@pytest.mark.parametrize(
    ("scopes", "terms", "code"),
    [(["read"], {}, "missing_scope"), (["inference"], {"models": ["another"]}, "model_not_allowed")],
)
def test_key_without_the_right_is_denied(cloud: Cloud, scopes: list[str], terms: dict, code: str) -> None:
    key = cloud.new_key(f"denied {code}", *scopes, **terms)["key"]
    error = _first(lambda: cloud.sdk(key).chat.completions.create(model=MODEL, messages=ASK, max_tokens=1))
    assert isinstance(error, openai.PermissionDeniedError)
    assert error.code == code


def test_control_api_needs_its_own_scope(cloud: Cloud) -> None:
    key = cloud.new_key("no operator", "inference", "read")["key"]
    answer = cloud.get("/api/v1/sites", key)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"


def test_over_its_rate_is_a_rate_limit_error(cloud: Cloud, upstream: FakeUpstream) -> None:
    key = cloud.new_key("slow", limits={"requests_per_minute": 2})["key"]
    client = cloud.sdk(key)
    error = _first(lambda: client.chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3), tries=4)
    assert isinstance(error, openai.RateLimitError)
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    assert error.response.headers["x-ratelimit-limit-requests"] == "2"
    assert len(upstream.seen) == 2


def test_too_large_body_is_refused(cloud: Cloud) -> None:
    huge = [{"role": "user", "content": "x" * (9 * 1024 * 1024)}]
    with pytest.raises(openai.APIStatusError) as caught:
        cloud.sdk().chat.completions.create(model=MODEL, messages=huge)
    assert caught.value.status_code == 413


def test_unknown_path_is_not_found_in_openai_words(cloud: Cloud) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        cloud.sdk().post("/no/such/path", cast_to=object, body={})
    assert caught.value.code


def test_broken_json_is_a_bad_request(cloud: Cloud) -> None:
    answer = cloud._client.post("/v1/chat/completions", content=b'{"model": ', headers=cloud.bearer(cloud.project_key))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def _first(call: Callable[[], object], tries: int = 1) -> openai.APIStatusError:
    """The error of one of so many calls."""
    for _ in range(tries):
        try:
            call()
        except openai.APIStatusError as error:
            return error
    raise AssertionError("no call was refused")
