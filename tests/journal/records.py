"""Records to write, and how to read a journal to its end."""

from pathlib import Path

from hypothesis import strategies as st

from skerry.runtime.journal.reader import Batch, Position, Tail, read_batch
from skerry.runtime.journal.records import AnswerRecord, Mark, Record


def answer(number: int = 0, **changes: object) -> AnswerRecord:
    values: dict[str, object] = dict(
        id=number.to_bytes(16), project="proj_1", key="key_1", model="smol", endpoint="ep_1", replica="rep_1",
        site="local", capacity_class="on_demand", charge_by="tokens", prompt=3, cached=0, completion=2,
        egress_bytes=100, t0=1, t1=2, counted="engine", status=200, leases=("lease_1",), cost_nano=5,
    )  # fmt: skip
    return AnswerRecord(**{**values, **changes})  # type: ignore[arg-type]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 2**53)
answers = st.builds(
    AnswerRecord,
    id=st.binary(min_size=16, max_size=16), project=texts, key=texts, model=texts, endpoint=texts, replica=texts,
    site=texts, capacity_class=texts, charge_by=texts, prompt=counts, cached=counts, completion=counts,
    egress_bytes=counts, t0=counts, t1=counts, counted=st.sampled_from(["engine", "gateway"]), status=counts,
    leases=st.lists(texts, max_size=3).map(tuple), cost_nano=counts, batch=texts,
    tags=st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip
records = st.one_of(answers, st.builds(Mark, counts))


def read_all(folder: Path, start: Position | None = None, limit: int = 10_000) -> tuple[list[Record], Batch]:
    """Everything up to where nothing more can be read now, and the last batch."""
    found: list[Record] = []
    batch = read_batch(folder, start or Position(), limit)
    while True:
        found += batch.records
        if batch.tail is not Tail.MORE:
            return found, batch
        assert batch.end > batch.start, "it would be read for ever"
        batch = read_batch(folder, batch.end, limit)
