"""What vLLM says of itself on `/metrics`. Pure."""

from dataclasses import dataclass
from typing import Final

_RUNNING: Final = "vllm:num_requests_running"
_WAITING: Final = "vllm:num_requests_waiting"
_CACHE: Final = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_QUERIES: Final = (
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_queries",
    "vllm:gpu_prefix_cache_queries_total",
)
_HITS: Final = ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits_total")
_TOKENS: Final = "vllm:generation_tokens_total"


@dataclass(frozen=True, slots=True)
class VllmLoad:
    """Sums over its engines; `cache` is the fullest one's share, 0 to 1. Prefix counts are tokens since its start."""

    running: int = 0
    waiting: int = 0
    cache: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    tokens: int = 0

    @property
    def requests(self) -> int:
        return self.running + self.waiting


def load_of(page: str) -> VllmLoad:
    """Lines that cannot be read are passed over."""
    values: dict[str, list[float]] = {}
    for line in page.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if not name.startswith("vllm:"):
            continue
        try:
            values.setdefault(name, []).append(float(line.rsplit(None, 1)[1]))
        except (ValueError, IndexError):
            continue
    return VllmLoad(
        running=_sum(values, (_RUNNING,)),
        waiting=_sum(values, (_WAITING,)),
        cache=max((value for name in _CACHE for value in values.get(name, ())), default=0.0),
        prefix_queries=_sum(values, _QUERIES),
        prefix_hits=_sum(values, _HITS),
        tokens=_sum(values, (_TOKENS,)),
    )


def _sum(values: dict[str, list[float]], names: tuple[str, ...]) -> int:
    """Of the first of the names that is there: they differ between versions."""
    return next((int(sum(values[name])) for name in names if name in values), 0)
