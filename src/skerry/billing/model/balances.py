"""The ledger of balances: accounts, periods and leases. Amounts are nano-units (10⁻⁹ of the currency)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from skerry.kernel.ids import KeyId, OrganizationId, ProjectId


class AccountKind(StrEnum):
    """Why an account is there."""

    BUDGET = "budget"
    """Someone set it, to be kept to."""
    KEY_LIMIT = "key_limit"
    """`limits.budget` of an API key."""
    CREDIT_LIMIT = "credit_limit"
    """What an organization that pays afterwards may owe in a month."""


class TargetKind(StrEnum):
    """Whose spending counts."""

    KEY = "key"
    PROJECT = "project"
    ORGANIZATION = "organization"


class BudgetWindow(StrEnum):
    """How often the balance begins anew (UTC)."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Target:
    kind: TargetKind
    id: str


@dataclass(frozen=True, slots=True)
class Account:
    """A limit on the spending of one target. `project` owns it, or `organization` where it is one's."""

    id: str
    kind: AccountKind
    target: Target
    project: ProjectId | None
    organization: OrganizationId | None
    window: BudgetWindow
    limit_nano: int
    currency: str
    alert_at: tuple[Decimal, ...]
    """Shares of the limit, ascending, at each of which an event is written once a period."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """What has become of an account's limit in one period.

    `committed_nano` is what nobody else may have: what was spent, and what open leases still may spend.
    """

    period: Period
    committed_nano: int = 0
    spent_nano: int = 0
    alerts_sent: tuple[Decimal, ...] = ()

    @property
    def pending_nano(self) -> int:
        return self.committed_nano - self.spent_nano


@dataclass(frozen=True, slots=True)
class Budget:
    """An account as its owner sees it, in the present period."""

    account: Account
    balance: Balance
    target_name: str = ""
    """The name of a project, the id of anything else."""

    @property
    def remaining_nano(self) -> int:
        return max(0, self.account.limit_nano - self.balance.committed_nano)


class LeaseState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    """Its journal says that all it paid for is booked; the rest went back."""
    RELEASED = "released"
    """An operator gave the rest back without knowing that."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A part of an account's balance, set aside for one gateway (by its journal) until `expires_at`."""

    id: str
    account: str
    period_start: datetime
    journal: str
    amount_nano: int
    spent_nano: int
    state: LeaseState
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """`amount_nano` more on lease `lease`: all of it where it is new, else what it has grown by."""

    lease: str
    amount_nano: int
    expires_at: datetime
    seconds: float
    """From now to `expires_at`."""


class RefusalReason(StrEnum):
    EXHAUSTED = "exhausted"
    """The balance is smaller than what is needed."""
    NO_SUCH_ACCOUNT = "no_such_account"
    """It was deleted: whoever asks must look up which accounts apply."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No lease. `remaining_nano` of `limit_nano` are left; `ends` is when the period does."""

    reason: RefusalReason
    account: str
    kind: AccountKind | None = None
    window: BudgetWindow | None = None
    remaining_nano: int = 0
    limit_nano: int = 0
    ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """Which accounts bear a request: those of its key, of its project and of its organization."""

    by_key: Mapping[KeyId, tuple[Account, ...]]
    by_project: Mapping[ProjectId, tuple[Account, ...]]
    by_organization: Mapping[OrganizationId, tuple[Account, ...]]

    def of(self, organization: OrganizationId, project: ProjectId, key: KeyId) -> tuple[Account, ...]:
        return (
            *self.by_key.get(key, ()),
            *self.by_project.get(project, ()),
            *self.by_organization.get(organization, ()),
        )
