"""Contracts and one-off charges."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.billing.schemas.contracts import ChargeOut, ChargePage, ContractIn, ContractOut, ContractPage
from skerry.billing.service import Contracts, Reserved
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
After = Annotated[str | None, Query(max_length=1000)]


def add(routes: APIRouter, contracts: Contracts, reserved: Reserved, access: Access) -> None:
    _add_contracts(routes, contracts, access)
    _add_charges(routes, reserved, access)


def _add_contracts(routes: APIRouter, contracts: Contracts, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.require(Scope.READ))]
    Operator = Annotated[Principal, Depends(access.require(Scope.OPERATOR))]

    @routes.get("/contracts")
    async def list_contracts(
        principal: Reader,
        organization: Annotated[str | None, Query(max_length=300, description="By id or name (operators).")] = None,
        limit: Limit = DEFAULT_LIMIT,
        after: After = None,
    ) -> ContractPage:
        """The organization's own; for operators all."""
        return ContractPage.of(await contracts.page(principal, organization, PageRequest.parse(limit, after)))

    @routes.post("/contracts", status_code=201)
    async def create_contract(principal: Operator, body: ContractIn) -> ContractOut:
        """A customer's own prices, terms of cancellation and credit. An organization has one at a time."""
        made = await contracts.create(
            principal,
            body.organization,
            body.name,
            starts_at=body.starts_at,
            ends_at=body.ends_at,
            prices=[row.to_price() for row in body.prices],
            cancellation=body.cancellation.to_terms() if body.cancellation else None,
            credit_limit=body.credit_limit.to_money() if body.credit_limit else None,
        )
        return ContractOut.of(made)

    @routes.get("/contracts/{contract}")
    async def get_contract(principal: Reader, contract: str) -> ContractOut:
        return ContractOut.of(await contracts.get(principal, contract))

    @routes.delete("/contracts/{contract}")
    async def end_contract(principal: Operator, contract: str) -> ContractOut:
        """End it now. What was sold under it keeps its price."""
        return ContractOut.of(await contracts.end(principal, contract))


def _add_charges(routes: APIRouter, reserved: Reserved, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]

    @routes.get("/charges")
    async def list_charges(
        principal: Reader,
        resource: Annotated[str | None, Query(max_length=200, description="What they are for.")] = None,
        limit: Limit = DEFAULT_LIMIT,
        after: After = None,
    ) -> ChargePage:
        """One-off charges, such as fees for cancelling; they are rows of /costs as well."""
        return ChargePage.of(await reserved.charges(principal.project_id, resource, PageRequest.parse(limit, after)))

    @routes.get("/charges/{charge}")
    async def get_charge(principal: Reader, charge: str) -> ChargeOut:
        return ChargeOut.of(await reserved.one_charge(principal.project_id, charge))
