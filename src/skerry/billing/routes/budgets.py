"""Budgets, and what is pending on them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from skerry.billing.schemas.budgets import BudgetChange, BudgetIn, BudgetOut, BudgetPage, LeaseList, LeaseOut
from skerry.billing.service import Budgets
from skerry.identity.access import Access
from skerry.identity.model import Principal, Scope
from skerry.kernel.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest


def add(routes: APIRouter, budgets: Budgets, access: Access) -> None:
    _add_budgets(routes, budgets, access)
    _add_leases(routes, budgets, access)


def _add_budgets(routes: APIRouter, budgets: Budgets, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Payer = Annotated[Principal, Depends(access.project(Scope.BILLING))]

    @routes.get("/budgets")
    async def list_budgets(
        principal: Reader,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        after: Annotated[str | None, Query(max_length=1000)] = None,
    ) -> BudgetPage:
        """The project's, its keys', and its organization's with its credit limit."""
        return BudgetPage.of(await budgets.list_budgets(principal, PageRequest.parse(limit, after)))

    @routes.post("/budgets", status_code=201)
    async def create_budget(principal: Payer, body: BudgetIn) -> BudgetOut:
        """By day or month, a project's or key's budget counts what the present period has cost so far."""
        return BudgetOut.of(
            await budgets.create_budget(principal, body.target, body.limit.to_money(), body.window, body.alert_at or ())
        )

    @routes.get("/budgets/{budget}")
    async def get_budget(principal: Reader, budget: str) -> BudgetOut:
        return BudgetOut.of(await budgets.get_budget(principal, budget))

    @routes.patch("/budgets/{budget}")
    async def update_budget(principal: Payer, budget: str, body: BudgetChange) -> BudgetOut:
        """Takes effect at once. Credit limits are the operator's to change."""
        limit = body.limit.to_money() if body.limit else None
        return BudgetOut.of(await budgets.update_budget(principal, budget, limit, body.alert_at))

    @routes.delete("/budgets/{budget}", status_code=204)
    async def delete_budget(principal: Payer, budget: str) -> None:
        await budgets.delete_budget(principal, budget)


def _add_leases(routes: APIRouter, budgets: Budgets, access: Access) -> None:
    Reader = Annotated[Principal, Depends(access.project(Scope.READ))]
    Operator = Annotated[Principal, Depends(access.project(Scope.OPERATOR))]

    @routes.get("/budgets/{budget}/leases")
    async def list_leases(principal: Reader, budget: str) -> LeaseList:
        """What is set aside for gateways: it counts as spent until their journals say otherwise."""
        account, leases = await budgets.pending_leases(principal, budget)
        return LeaseList(data=[LeaseOut.of(lease, account) for lease in leases])

    @routes.post("/budgets/{budget}/leases/{lease}/release")
    async def release_lease(principal: Operator, budget: str, lease: str) -> BudgetOut:
        """Give the rest of an expired lease back although its gateway's journal never came."""
        return BudgetOut.of(await budgets.release_lease(principal, budget, lease))
