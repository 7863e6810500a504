"""Budgets of teams and API keys: their windows, their owners, and what a limit sums.

A store keeps a balance for each owner, day and month (UTC). A week is the sum of its days and a lifetime that of its
months, so that only limits that are set cost a read. Pure.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

from gateway.money import MICROS_PER_USD

# The first month in which a store could have money.
FIRST_MONTH = (2026, 11)
# Between the team and the API key in the name of an owner.
KEY_MARK = " key:"


class WindowKind(StrEnum):
    """A kind of budget window. The longest is first: of several exceeded budgets a refusal names the one that returns
    last."""

    LIFETIME = "lifetime"
    MONTH = "month"
    WEEK = "week"
    DAY = "day"


class BudgetLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of a team or of an API key in micro-USD. None means unlimited."""

    day: int | None = None
    week: int | None = None
    month: int | None = None
    lifetime: int | None = None

    def get(self, kind: WindowKind) -> int | None:
        limit: int | None = getattr(self, kind)
        return limit

    @property
    def is_empty(self) -> bool:
        return self == NO_BUDGET_LIMITS


def serialize_limits(limits: BudgetLimits) -> dict[str, float]:
    """Serializes the limits that are set, in USD."""
    return {kind.value: amount / MICROS_PER_USD for kind in WindowKind if (amount := limits.get(kind)) is not None}


NO_BUDGET_LIMITS = BudgetLimits()


class KeyBudget(Struct, frozen=True):
    """The budget of an API key, with or without limits. `key_id`: the first key of its line of rotations, since all of
    them share a budget."""

    key_id: str
    limits: BudgetLimits


class BudgetWindow(Struct, frozen=True):
    """A window that contains a moment. `name`: like 2026-11-28, 2026-W48, 2026-11 or lifetime. `parts`: the days or
    months whose balances it sums."""

    kind: WindowKind
    name: str
    parts: tuple[str, ...]


class BudgetLimit(Struct, frozen=True):
    """One limit that a new job must respect, in micro-USD."""

    owner: str
    window: BudgetWindow
    amount: int


class BudgetChange(Struct, frozen=True, kw_only=True):
    """Change of the balance of one owner in one day or month."""

    owner: str
    window: str
    hold: int
    spend: int = 0


def make_owner(team: str, key_id: str = "") -> str:
    """Returns the owner of a balance: a team, or one of its API keys, by the id of its line of rotations or by its
    reference in the configuration. No team has such a name by chance."""
    return f"{team}{KEY_MARK}{key_id.replace('%', '%25').replace(' ', '%20')}" if key_id else team


def list_owners(team: str, key_id: str = "") -> tuple[str, ...]:
    """Returns the owners whose balances change with a job."""
    return (team, make_owner(team, key_id)) if key_id else (team,)


def is_team(owner: str) -> bool:
    """Returns whether the owner of a balance is a team, not one of its API keys."""
    return KEY_MARK not in owner


def split_owner(owner: str) -> tuple[str, str]:
    """Returns team and API key. The key is empty for the balance of a team."""
    team, mark, key_id = owner.rpartition(KEY_MARK)
    return (team, key_id.replace("%20", " ").replace("%25", "%")) if mark else (owner, "")


def list_limits(owner: str, limits: BudgetLimits, now: float) -> Iterator[BudgetLimit]:
    """Yields the limits that are set, for the windows that contain this moment."""
    for kind in WindowKind:
        amount = limits.get(kind)
        if amount is not None:
            yield BudgetLimit(owner, get_window(kind, now), amount)


def list_job_limits(
    team: str, limits: BudgetLimits, key_budget: KeyBudget | None, now: float
) -> tuple[BudgetLimit, ...]:
    """Lists the limits of a new job, the longest windows first."""
    if limits.is_empty and (key_budget is None or key_budget.limits.is_empty):
        return ()
    found = list(list_limits(team, limits, now))
    if key_budget is not None:
        found += list_limits(make_owner(team, key_budget.key_id), key_budget.limits, now)
    order = list(WindowKind)
    return tuple(sorted(found, key=lambda limit: order.index(limit.window.kind)))


def list_budget_windows(created_at: float) -> tuple[str, str]:
    """Returns the day and the month (UTC) of a job's creation. Its money counts there, whenever it is spent."""
    return _name_day_and_month(int(created_at // 86_400))


@lru_cache(maxsize=1024)
def _name_day_and_month(day_number: int) -> tuple[str, str]:
    day = _to_date(day_number).isoformat()
    return day, day[:7]


def get_window(kind: WindowKind, now: float) -> BudgetWindow:
    return _make_window(kind, int(now // 86_400))


def get_window_end(kind: WindowKind, now: float) -> float | None:
    """Returns when the window of this moment ends, and its budget returns; None for a lifetime."""
    day = _to_date(int(now // 86_400))
    match kind:
        case WindowKind.DAY:
            end = day + timedelta(days=1)
        case WindowKind.WEEK:
            end = day + timedelta(days=7 - day.weekday())
        case WindowKind.MONTH:
            end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        case WindowKind.LIFETIME:
            return None
    return datetime(end.year, end.month, end.day, tzinfo=UTC).timestamp()


@lru_cache(maxsize=256)
def _make_window(kind: WindowKind, day_number: int) -> BudgetWindow:
    day = _to_date(day_number)
    match kind:
        case WindowKind.DAY:
            return BudgetWindow(kind, day.isoformat(), (day.isoformat(),))
        case WindowKind.WEEK:
            monday = day - timedelta(days=day.weekday())
            days = tuple((monday + timedelta(days=offset)).isoformat() for offset in range(7))
            year, week, _ = day.isocalendar()
            return BudgetWindow(kind, f"{year}-W{week:02}", days)
        case WindowKind.MONTH:
            return BudgetWindow(kind, day.isoformat()[:7], (day.isoformat()[:7],))
        case WindowKind.LIFETIME:
            return BudgetWindow(kind, kind.value, tuple(_list_months(day)))


def _list_months(day: date) -> Iterator[str]:
    """Yields all months that may have money, up to the next one: it may have begun by the clock of another replica."""
    month = min(FIRST_MONTH, (day.year, day.month))
    while month <= (day.year + day.month // 12, day.month % 12 + 1):
        yield f"{month[0]}-{month[1]:02}"
        month = month[0] + month[1] // 12, month[1] % 12 + 1


def _to_date(day_number: int) -> date:
    return datetime.fromtimestamp(day_number * 86_400, UTC).date()
