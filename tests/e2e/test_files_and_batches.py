"""The official SDK's files and batches, against the real model."""

import json
from collections.abc import Iterable
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.cloud import MODEL, Cloud
from tests.waiting import eventually_sync

pytestmark = pytest.mark.cloud

ENDED = ("completed", "failed", "expired", "cancelled")


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def row(name: str, model: str = MODEL, **body: Any) -> dict[str, Any]:
    asked = {"model": model, "messages": [{"role": "user", "content": "Name a bird."}], "max_tokens": 4, **body}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def started(client: openai.OpenAI, rows: Iterable[dict[str, Any]], **more: Any) -> Batch:
    file = client.files.create(file=("rows.jsonl", lines(*rows)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    last = [batch]

    def has_ended() -> bool:
        last[0] = client.batches.retrieve(batch.id)
        return last[0].status in ENDED

    eventually_sync(has_ended, 60.0)
    return last[0]


def test_a_file_is_kept_listed_read_and_deleted(cloud: Cloud) -> None:
    client, content = cloud.sdk(), lines(row("one"))
    made = client.files.create(file=("rows.jsonl", content), purpose="batch")
    assert (made.bytes, made.filename, made.purpose) == (len(content), "rows.jsonl", "batch")
    assert made.id in [file.id for file in client.files.list(purpose="batch")]
    assert client.files.retrieve(made.id).bytes == len(content)
    assert client.files.content(made.id).read() == content
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_a_bad_line_is_refused_with_its_number(cloud: Cloud) -> None:
    with pytest.raises(openai.BadRequestError, match="2"):
        cloud.sdk().files.create(file=("rows.jsonl", lines(row("one")) + b"{oops\n"), purpose="batch")


def test_every_row_has_its_answer_and_usage(cloud: Cloud) -> None:
    client = cloud.sdk()
    batch = ended(client, started(client, [row(f"row-{n}") for n in range(5)], metadata={"night": "1"}))
    assert batch.status == "completed"
    assert batch.metadata == {"night": "1"}
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (5, 5, 0)
    assert batch.output_file_id
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {f"row-{n}" for n in range(5)}
    for answer in answers:
        assert answer["response"]["status_code"] == 200
        assert 0 < answer["response"]["body"]["usage"]["completion_tokens"] <= 4


def test_rows_that_fail_are_in_the_error_file(cloud: Cloud) -> None:
    client = cloud.sdk()
    batch = ended(client, started(client, [row("good"), row("bad", temperature=99)]))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert batch.error_file_id
    (failed,) = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert failed["custom_id"] == "bad"


def test_a_batch_can_be_cancelled_and_listed(cloud: Cloud) -> None:
    client = cloud.sdk()
    batch = started(client, [row(f"row-{n}", max_tokens=64) for n in range(40)])
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert ended(client, batch).status == "cancelled"
    assert batch.id in [listed.id for listed in client.batches.list()]


def test_another_projects_key_sees_none_of_it(cloud: Cloud) -> None:
    client = cloud.sdk()
    file = client.files.create(file=("rows.jsonl", lines(row("one"))), purpose="batch")
    project = cloud.post("/api/v1/projects", {"name": "neighbours"})
    assert project.status_code == 201, project.text
    made = cloud._client.post(
        "/api/v1/api-keys",
        params={"project": project.json()["id"]},
        json={"name": "neighbour", "scopes": ["inference", "read", "write"]},
        headers=cloud.bearer(),
    )
    assert made.status_code == 201, made.text
    other = cloud.sdk(made.json()["key"])
    assert file.id not in [seen.id for seen in other.files.list()]
    with pytest.raises(openai.NotFoundError):
        other.files.content(file.id)
