"""What the database knows of the answers given to a key."""

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from skerry.metering.journal_intake import fact_id
from skerry.metering.model import Meter
from tests.cloud import Cloud

FACTS = """
SELECT f.id, f.meter, f.quantity FROM usage_facts f JOIN usage_dims d ON d.id = f.dims
 WHERE d.dims->>'key' = %s AND f.meter <> 'accelerator_seconds' ORDER BY f.t1, f.id
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One journal record, put together again from its facts; `id` is the `x-request-id` of the answer."""

    id: str
    prompt: int
    cached: int
    completion: int
    requests: int

    @property
    def tokens(self) -> tuple[int, int, int]:
        return self.prompt, self.cached, self.completion


def records(cloud: Cloud, key: str) -> list[Recorded]:
    """In the order of their ends. A record without its `requests` fact shows as `requests` 0."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for fact, meter, quantity in cloud.query(FACTS, key):
        # The mark of a meter is put on by XOR, so putting it on again takes it off.
        found[UUID(int=fact_id(fact.bytes, Meter(meter)).int).hex][meter] += quantity
    return [
        Recorded(id, of["tokens_prompt"], of["tokens_cached"], of["tokens_completion"], of["requests"])
        for id, of in found.items()
    ]
