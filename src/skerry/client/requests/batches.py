"""Requests about batches: files of requests that run at half the price while nobody else needs the replicas."""

from collections.abc import Mapping

from skerry.client.answers.base import reader
from skerry.client.answers.work import Batch, BatchEstimate
from skerry.client.call import Call, Page, act, at, create, estimate, get, openai_listing

BATCHES = "/v1/batches"


def create_batch(
    input_file_id: str,
    *,
    endpoint: str,
    completion_window: str = "24h",
    metadata: Mapping[str, str] | None = None,
) -> Call[Batch]:
    """`endpoint` is the path that all rows ask, such as /v1/chat/completions. `estimate` tells the price."""
    return create(BATCHES, reader(Batch), _body(input_file_id, endpoint, completion_window, metadata))


def estimate_batch(
    input_file_id: str,
    *,
    endpoint: str,
    completion_window: str = "24h",
    metadata: Mapping[str, str] | None = None,
) -> Call[BatchEstimate]:
    """The rows, and the most that they can cost. Starts nothing."""
    return estimate(BATCHES, reader(BatchEstimate), _body(input_file_id, endpoint, completion_window, metadata))


def list_batches(*, limit: int | None = None) -> Call[Page[Batch]]:
    """The newest first."""
    return openai_listing(BATCHES, reader(Batch), limit=limit)


def get_batch(batch_id: str) -> Call[Batch]:
    return get(at(BATCHES, batch_id), reader(Batch))


def cancel_batch(batch_id: str) -> Call[Batch]:
    """Nothing more is sent; what was answered is in the output file."""
    return act(at(BATCHES, batch_id, "cancel"), reader(Batch))


def has_ended(batch: Batch) -> bool:
    return batch.ended


def _body(
    input_file_id: str, endpoint: str, completion_window: str, metadata: Mapping[str, str] | None
) -> dict[str, object]:
    return {
        "input_file_id": input_file_id,
        "endpoint": endpoint,
        "completion_window": completion_window,
        "metadata": dict(metadata) if metadata else None,
    }
