"""Requests about contracts, price books and one-off charges."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skerry.client.answers.base import reader
from skerry.client.answers.contracts import Charge, Contract
from skerry.client.answers.money import PriceBook
from skerry.client.call import CONTROL, Call, Page, at, create, get, listing, rfc3339

CONTRACTS = f"{CONTROL}/contracts"
CHARGES = f"{CONTROL}/charges"


def list_contracts(*, organization: str | None = None, limit: int | None = None) -> Call[Page[Contract]]:
    """The organization's own; operators see all, or those of the one named."""
    return listing(CONTRACTS, reader(Contract), organization=organization, limit=limit)


def get_contract(contract_id: str) -> Call[Contract]:
    return get(at(CONTRACTS, contract_id), reader(Contract))


def create_contract(
    organization: str,
    name: str,
    *,
    prices: Sequence[Mapping[str, Any]] = (),
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    cancellation: Mapping[str, Any] | None = None,
    credit_limit: Mapping[str, str] | None = None,
) -> Call[Contract]:
    """For operators. Rows as in a price book; `cancellation`: {free_days_before, steps: [{days_before, share}]}."""
    body = {
        "organization": organization,
        "name": name,
        "prices": [dict(row) for row in prices],
        "starts_at": rfc3339(starts_at) if starts_at else None,
        "ends_at": rfc3339(ends_at) if ends_at else None,
        "cancellation": dict(cancellation) if cancellation else None,
        "credit_limit": dict(credit_limit) if credit_limit else None,
    }
    return create(CONTRACTS, reader(Contract), body)


def end_contract(contract_id: str) -> Call[Contract]:
    """For operators: it ends now. What was sold under it keeps its price."""
    return Call("DELETE", at(CONTRACTS, contract_id), reader(Contract))


def publish_prices(
    prices: Sequence[Mapping[str, Any]], *, currency: str, effective_from: datetime | None = None
) -> Call[PriceBook]:
    """For operators: a new version of all prices, in force from now or later."""
    body = {
        "currency": currency,
        "effective_from": rfc3339(effective_from) if effective_from else None,
        "prices": [dict(row) for row in prices],
    }
    return create(f"{CONTROL}/price-books", reader(PriceBook), body)


def list_charges(*, resource: str | None = None, limit: int | None = None) -> Call[Page[Charge]]:
    """One-off charges of the project, oldest first; of one resource, if it is named."""
    return listing(CHARGES, reader(Charge), resource=resource, limit=limit)


def get_charge(charge_id: str) -> Call[Charge]:
    return get(at(CHARGES, charge_id), reader(Charge))
