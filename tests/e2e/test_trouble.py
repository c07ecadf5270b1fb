"""Retries, time-outs and broken upstreams, as the SDK meets them; each answer is recorded once, or not at all."""

import openai
import pytest

from tests.cloud import Cloud, eventually_equal
from tests.e2e.conftest import SCRIPTED
from tests.e2e.reading import records
from tests.e2e.scripted import FakeUpstream, failing, falling_silent, tearing, trickling, well
from tests.waiting import eventually_sync

pytestmark = pytest.mark.cloud

ASK = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def key(cloud: Cloud, request: pytest.FixtureRequest) -> dict:
    return cloud.new_key(request.node.name)


def test_failing_upstream_is_a_server_error_with_retry_after(cloud: Cloud, upstream: FakeUpstream, key: dict) -> None:
    upstream.default = failing
    with pytest.raises(openai.InternalServerError) as caught:
        cloud.sdk(key["key"]).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert "broken" not in str(caught.value)


def test_sdk_retries_and_pays_once(cloud: Cloud, upstream: FakeUpstream, key: dict) -> None:
    upstream.scripts.extend([failing, well])
    answer = cloud.sdk(key["key"], max_retries=2).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    assert answer.usage is not None
    assert len(upstream.seen) == 2
    eventually_equal(lambda: [found.tokens for found in records(cloud, key["id"])], [(9, 0, 3)], 30)


def test_time_out_of_a_plain_answer_stops_the_upstream(cloud: Cloud, upstream: FakeUpstream, key: dict) -> None:
    upstream.default = falling_silent
    with pytest.raises(openai.APITimeoutError):
        cloud.sdk(key["key"], timeout=0.5).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=3)
    eventually_sync(lambda: upstream.gone == 1, 30)


def test_time_out_is_retried(cloud: Cloud, upstream: FakeUpstream, key: dict) -> None:
    upstream.scripts.append(falling_silent)
    answer = cloud.sdk(key["key"], timeout=0.7, max_retries=1).chat.completions.create(
        model=SCRIPTED, messages=ASK, max_tokens=3
    )
    assert answer.choices[0].message.content
    eventually_equal(lambda: len(records(cloud, key["id"])), 1, 30)


def test_leaving_a_stream_stops_the_upstream_and_charges_what_came(
    cloud: Cloud, upstream: FakeUpstream, key: dict
) -> None:
    upstream.default = trickling
    stream = cloud.sdk(key["key"]).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=1000, stream=True)
    for _ in range(4):
        next(iter(stream))
    stream.close()
    eventually_sync(lambda: upstream.gone == 1, 30)
    eventually_equal(lambda: len(records(cloud, key["id"])), 1, 30)
    assert 4 <= records(cloud, key["id"])[0].completion < 1000


def test_stream_broken_in_the_middle_is_an_error_and_charged_as_delivered(
    cloud: Cloud, upstream: FakeUpstream, key: dict
) -> None:
    upstream.default = tearing
    stream = cloud.sdk(key["key"]).chat.completions.create(model=SCRIPTED, messages=ASK, max_tokens=9, stream=True)
    got = []
    with pytest.raises(openai.APIError, match="replica"):
        got.extend(stream)
    eventually_equal(lambda: [found.completion for found in records(cloud, key["id"])], [2], 30)


def test_upstream_that_is_not_there_is_a_server_error(cloud: Cloud, key: dict) -> None:
    cloud.add_upstream("nobody-home", "http://127.0.0.1:9/v1")
    with pytest.raises(openai.InternalServerError) as caught:
        cloud.sdk(key["key"], timeout=20).chat.completions.create(model="nobody-home", messages=ASK, max_tokens=3)
    assert caught.value.status_code == 503
