"""Which contracts are accepted."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from skerry.billing.model import CancellationTerms, ContractTerms, Price
from skerry.billing.rules.books import LAST_YEAR, row_errors
from skerry.kernel.errors import FieldError, Invalid
from skerry.metering.model import Meter, MeterFamily

FREE_DAYS_MAX = 3660
STEPS_MAX = 20


def require_valid(
    prices: Sequence[Price], cancellation: CancellationTerms, starts_at: datetime, ends_at: datetime | None
) -> None:
    """Raises Invalid, naming each thing that could not be kept to."""
    errors = [*row_errors(prices), *_meters(prices), *_cancellation(cancellation), *_window(starts_at, ends_at)]
    if errors:
        code = errors[0].code if len(errors) == 1 else "invalid_contract"
        raise Invalid("; ".join(error.message for error in errors[:3]), code=code, errors=errors)


def overlapping(known: Iterable[ContractTerms], starts_at: datetime, ends_at: datetime | None) -> ContractTerms | None:
    """A contract of which some moment also lies in the window."""
    for terms in known:
        begins_before_end = ends_at is None or terms.starts_at < ends_at
        ends_after_start = terms.ends_at is None or starts_at < terms.ends_at
        empty = terms.ends_at is not None and terms.ends_at <= terms.starts_at
        if begins_before_end and ends_after_start and not empty:
            return terms
    return None


def _meters(prices: Sequence[Price]) -> Iterator[FieldError]:
    """Gateways take what answers cost from the price book: a contract that says otherwise would not be kept to."""
    for n, price in enumerate(prices):
        if price.meter.family is MeterFamily.TOKENS or price.meter is Meter.EGRESS_BYTES:
            message = f"{price.meter} cannot have a price in a contract yet; the price book's applies"
            yield FieldError(f"prices.{n}.meter", "not_in_contracts", message)


def _cancellation(terms: CancellationTerms) -> Iterator[FieldError]:
    path = "cancellation"
    if not 0 <= terms.free_days_before <= FREE_DAYS_MAX:
        yield FieldError(f"{path}.free_days_before", "out_of_range", f"it lies between 0 and {FREE_DAYS_MAX}")
    if not 1 <= len(terms.steps) <= STEPS_MAX:
        yield FieldError(f"{path}.steps", "out_of_range", f"there are 1 to {STEPS_MAX} steps")
        return
    for n, step in enumerate(terms.steps):
        if not (step.share.is_finite() and 0 <= step.share <= 1):
            yield FieldError(f"{path}.steps.{n}.share", "out_of_range", "a share lies between 0 and 1")
    if terms.steps[-1].days_before != 0:
        message = "the last step has days_before 0: what is owed on the last day, and thereafter"
        yield FieldError(f"{path}.steps", "last_step", message)
    for n, (far, near) in enumerate(pairwise(terms.steps), 1):
        if near.days_before >= far.days_before:
            yield FieldError(f"{path}.steps.{n}.days_before", "order", "steps come nearer to the start one by one")
        if near.share < far.share:
            yield FieldError(f"{path}.steps.{n}.share", "order", "cancelling later cannot cost less")
    first = terms.steps[0].days_before
    if first >= terms.free_days_before and first:
        message = f"{first} days before it still is free: free_days_before is {terms.free_days_before}"
        yield FieldError(f"{path}.steps.0.days_before", "order", message)


def _window(starts_at: datetime, ends_at: datetime | None) -> Iterator[FieldError]:
    if ends_at is None:
        return
    if ends_at <= starts_at:
        yield FieldError("ends_at", "empty_window", "a contract ends after it starts")
    elif ends_at.year >= LAST_YEAR:
        yield FieldError("ends_at", "out_of_range", f"it must lie before the year {LAST_YEAR}")
