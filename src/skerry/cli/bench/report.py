"""What a load test has shown, for people and for machines."""

from collections.abc import Sequence
from typing import Any

from skerry.cli.bench.load import Tally
from skerry.cli.bench.plan import Plan
from skerry.cli.figures import plain


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed (nearest rank); None of none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None


def as_json(plan: Plan, tally: Tally) -> dict[str, Any]:
    """Times in milliseconds, rates by the second."""
    return {
        "model": plan.model,
        "concurrency": plan.concurrency,
        "stream": plan.stream,
        "seconds": round(tally.seconds, 3),
        "requests": {
            "begun": tally.begun,
            "answered": tally.answered,
            "failed": tally.failed,
            "per_second": _rate(tally.answered, tally.seconds),
        },
        "tokens": {
            "prompt": tally.prompt,
            "cached": tally.cached,
            "completion": tally.completion,
            "completion_per_second": _rate(tally.completion, tally.seconds),
        },
        "first_token_ms": _spread(tally.first),
        "inter_token_ms": _spread(tally.between),
        "total_ms": _spread(tally.total),
        "errors": dict(tally.errors.most_common()),
        "cost": {"amount": plain(tally.cost), "currency": plan.currency},
        "cost_not_told": tally.untold,
        "highest_cost": {"amount": plain(plan.highest.amount), "currency": plan.currency},
        "stopped": None if tally.stopped is None else tally.stopped.detail,
        "ceiling_reached": tally.ceiling_reached,
        "interrupted": tally.interrupted,
    }


def fields(plan: Plan, tally: Tally) -> list[tuple[str, str]]:
    told = as_json(plan, tally)
    requests, tokens = told["requests"], told["tokens"]
    untold = f" ({tally.untold} answers did not say)" if tally.untold else ""
    cached = f" ({tally.cached:,} cached)" if tally.cached else ""
    mean = (
        f", {tally.prompt / tally.answered:.0f} + {tally.completion / tally.answered:.0f} each" if tally.total else ""
    )
    return [
        ("model", plan.model),
        ("requests", f"{tally.answered:,} answered in {tally.seconds:.1f} s, {requests['per_second']:.2f}/s"),
        ("first token", _words(told["first_token_ms"])),
        ("between tokens", _words(told["inter_token_ms"])),
        ("whole answer", _words(told["total_ms"])),
        ("tokens", f"{tally.prompt:,} prompt{cached} + {tally.completion:,} completion{mean}"),
        ("speed", f"{tokens['completion_per_second']:,.1f} tokens/s"),
        ("cost", f"{plain(tally.cost)} {plan.currency}{untold}"),
        *(("error", f"{number:,} × {code}") for code, number in tally.errors.most_common()),
        ("ended early", "--max-cost leaves no room for another request" if tally.ceiling_reached else ""),
        ("ended early", tally.stopped.detail if tally.stopped is not None else ""),
        ("ended early", "it was stopped" if tally.interrupted else ""),
    ]


def _rate(number: int, seconds: float) -> float:
    return round(number / seconds, 3) if seconds else 0.0


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {name: round((percentile(values, share) or 0.0) * 1000, 2) for name, share in (("p50", 0.5), ("p95", 0.95))}


def _words(spread: dict[str, float] | None) -> str:
    return "" if spread is None else f"p50 {spread['p50']:,.1f} ms, p95 {spread['p95']:,.1f} ms"
