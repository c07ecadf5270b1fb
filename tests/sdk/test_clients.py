"""What works with OpenAI works here, whichever library asks: each unmodified, against the real model."""

import math
from typing import Any

import pytest

from tests.sdk.programs import PROGRAMS, Program, Surroundings

pytestmark = [pytest.mark.cloud, pytest.mark.sdk]


@pytest.fixture(params=PROGRAMS.values(), ids=PROGRAMS, scope="package")
def program(request: pytest.FixtureRequest) -> Program:
    program: Program = request.param
    return program


@pytest.fixture
def seen(program: Program, surroundings: Surroundings) -> dict[str, dict[str, Any]]:
    return surroundings.seen_by(program)


def having(check: str) -> pytest.MarkDecorator:
    """For the libraries that have means for it."""
    programs = [program for program in PROGRAMS.values() if check not in program.lacks]
    return pytest.mark.parametrize("program", programs, ids=lambda program: program.name)


def said(seen: dict[str, dict[str, Any]], check: str) -> dict[str, Any]:
    assert "failed" not in seen[check], seen[check]["failed"]
    return seen[check]


def test_chat_answers_with_usage(seen: dict[str, dict[str, Any]]) -> None:
    answer = said(seen, "chat")
    assert answer["text"]
    assert answer["prompt"] > 0
    assert 0 < answer["completion"] <= 8


def test_a_stream_comes_in_pieces_with_usage(seen: dict[str, dict[str, Any]]) -> None:
    answer = said(seen, "stream")
    assert answer["pieces"] > 1
    assert answer["text"]
    assert answer["prompt"] > 0
    assert 0 < answer["completion"] <= 8


def test_structured_output_has_the_form_asked_for(seen: dict[str, dict[str, Any]]) -> None:
    answer = said(seen, "structured")
    assert set(answer) == {"animal", "legs"}
    assert answer["animal"] in ("cat", "bird")
    assert 0 <= answer["legs"] <= 9


@having("tools")
def test_tools_are_refused_by_name_for_a_model_that_has_none(program: Program, seen: dict[str, dict[str, Any]]) -> None:
    error = said(seen, "tools")
    assert f"{program.errors}.BadRequestError" in error["classes"]
    assert "tools" in error["message"]


def test_embeddings_of_like_texts_are_alike(seen: dict[str, dict[str, Any]], surroundings: Surroundings) -> None:
    answer = said(seen, "embeddings")
    if not surroundings.embeds:
        assert answer == {"none": True}
        pytest.skip("no embedding model is served")
    bird, song, invoice = answer["vectors"]
    assert len(bird) == len(song) == len(invoice) == 384
    assert cosine(bird, song) > 0.5 > cosine(bird, invoice)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


@having("batches")
def test_files_and_batches_do_their_work(seen: dict[str, dict[str, Any]], surroundings: Surroundings) -> None:
    answer = said(seen, "batches")
    if not surroundings.has_batches:
        assert answer == {"none": True}
        pytest.skip("there are no batches yet")
    assert answer["status"] == "completed"
    assert [row["custom_id"] for row in answer["rows"]] == ["one"]
    assert answer["rows"][0]["response"]["status_code"] == 200


@pytest.mark.parametrize(
    ("check", "name", "status"),
    [
        ("unauthorized", "AuthenticationError", 401),
        ("not_found", "NotFoundError", 404),
        ("throttled", "RateLimitError", 429),
    ],
)
def test_errors_are_the_librarys_own(
    program: Program, seen: dict[str, dict[str, Any]], check: str, name: str, status: int
) -> None:
    error = said(seen, check)
    assert f"{program.errors}.{name}" in error["classes"], error
    assert error["status"] == status
