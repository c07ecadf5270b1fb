import asyncio
import io
import json
import logging

import pytest
import structlog

from skerry.runtime import log

TOKEN = "sk-" + "aB3_-" * 9 + "xyz"


@pytest.fixture
def lines():
    """What is logged inside the test, parsed."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    log.configure("server", "info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_says_what_when_who_and_how_bad(lines):
    structlog.get_logger("skerry.x").warning("replica_died", replica="rep_1", code=-9)
    [line] = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "replica_died",
        "replica": "rep_1",
        "code": -9,
        "level": "warning",
        "logger": "skerry.x",
        "role": "server",
    }


def test_the_levels_below_are_left_out(lines):
    structlog.get_logger("x").debug("noise")
    logging.getLogger("x").debug("noise")
    assert lines() == []
    with pytest.raises(ValueError, match="loud"):
        log.configure("server", "loud")


def test_libraries_log_the_same_way(lines):
    logging.getLogger("uvicorn.error").info("Bearer %s from %s", TOKEN, "1.2.3.4")
    [line] = lines()
    assert line["logger"] == "uvicorn.error"
    assert line["role"] == "server"
    assert TOKEN not in line["event"] and "1.2.3.4" in line["event"]


async def test_a_request_id_follows_its_request_only(lines):
    async def request(id):
        with log.bound_request_id(id):
            await asyncio.sleep(0)
            await asyncio.create_task(inner())

    async def inner():
        structlog.get_logger("x").info("hello")

    await asyncio.gather(request("req_1"), request("req_2"))
    structlog.get_logger("x").info("hello")
    assert [line.get("request_id") for line in lines()] == ["req_1", "req_2", None]


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        f"key {TOKEN}, please",
        f"Authorization: Bearer {TOKEN}",
        "Authorization: Bearer eyJhbGciOi.secretpart.x",
        "authorization=Basic c2VjcmV0cGFydA==",
        '{"Authorization": "Bearer secretpart"}',
        "{'authorization': 'secretpart'}",
        f"GET /x?key={TOKEN}",
        "postgresql://skerry:secretpart@db/skerry",
        f"upstream said: bad token 'sk-proj-{TOKEN[3:]}'",
    ],
)
def test_credentials_are_taken_out_of_text(value):
    text = log.redact_text(value)
    assert log.REDACTED in text
    assert TOKEN[3:] not in text and "secretpart" not in text and "c2Vjc" not in text


@pytest.mark.parametrize(
    "value",
    ["task-runner-12345678", "ask-me-anything", "the authorization header is missing", "sk-", "risk-free-lunch"],
)
def test_ordinary_words_are_left_alone(value):
    assert log.redact_text(value) == value


def test_credentials_and_prompts_are_taken_out_of_values_however_deep(lines):
    class Odd:
        def __repr__(self):
            return f"<Odd {TOKEN}>"

    structlog.get_logger("x").info(
        f"event {TOKEN}",
        headers={"Authorization": "hidden-a", "x": [TOKEN, {"cookie": "hidden-b"}]},
        prompt="tell me hidden-c",
        messages=[{"role": "user", "content": "hidden-d"}],
        raw=f"Bearer {TOKEN}".encode(),
        odd=Odd(),
        tokens=(1, 2.5, None, True),
        completion=12,
    )
    [line] = lines()
    text = json.dumps(line)
    assert TOKEN[3:] not in text
    assert "hidden" not in text
    assert line["tokens"] == [1, 2.5, None, True]
    assert line["completion"] == 12


def test_credentials_are_taken_out_of_tracebacks(lines):
    try:
        raise OSError(f"refused {TOKEN}")
    except OSError:
        structlog.get_logger("x").exception("call_failed")
        logging.getLogger("y").exception("call failed")
    for line in lines():
        assert "OSError: refused sk-[redacted]" in line["exception"]
