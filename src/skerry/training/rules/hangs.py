"""When silence is a hang. Milliseconds."""

from collections.abc import Sequence
from statistics import median

from skerry.training.spec import HangSettings


def limit_ms(settings: HangSettings, step_ms: float | None) -> float:
    """How long silence is borne; `step_ms` None: no step has been timed in this generation or before."""
    if step_ms is None:
        return max(settings.first_step_seconds, settings.floor_seconds) * 1000
    return max(settings.factor * step_ms, settings.floor_seconds * 1000)


def before_first_step_ms(settings: HangSettings) -> float:
    return max(settings.first_step_seconds, settings.floor_seconds) * 1000


def typical_ms(steps: Sequence[float]) -> float | None:
    return median(steps) if steps else None
