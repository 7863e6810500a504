"""What metrics read from a store: lifetime totals of the ledger, balances of all budgets, the backlog, heartbeats.

Each read takes as long as there are accounts, teams, replicas or open jobs, however many jobs the store has.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from gateway.jobs.job import Job, JobState
from gateway.store.ledger_totals import BudgetBalance, LedgerAccount

# The heartbeat of a replica that was killed is listed for this time, so that an alert sees it.
HEARTBEAT_TTL_SECONDS = 900.0


class LifetimeTotal(Struct, frozen=True, kw_only=True):
    """Everything that was ever booked for one account, in micro-USD and images. No number falls, so each is a counter.

    `charged` minus `corrected` is the sum of the account's day totals, of deleted days as well and of all API keys. The
    account has no `budget_key`, so that the number of totals does not grow with the number of keys.
    """

    account: LedgerAccount
    charged: int = 0
    charged_images: int = 0
    corrected: int = 0
    corrected_images: int = 0


class OpenState(StrEnum):
    """State of a job that is not settled. `ended`: its team has the result, and a charge is still unknown."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    ENDED = "ended"


_OPEN_STATES = {JobState.QUEUED: OpenState.QUEUED, JobState.IN_PROGRESS: OpenState.IN_PROGRESS}


def get_open_state(job: Job) -> OpenState:
    return _OPEN_STATES.get(job.state, OpenState.ENDED)


class Backlog(Struct, frozen=True, kw_only=True):
    """The jobs that are not settled.

    `oldest_seconds`: the age of the oldest one; `due_lag_seconds`: for how long the most overdue one has waited for a
    replica. Both are 0 without such a job.
    """

    jobs: Mapping[OpenState, int]
    oldest_seconds: float
    due_lag_seconds: float


class StoreStatistics(Protocol):
    """Reads the statistics of a store. Every call may raise StoreUnavailable."""

    async def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        """Adds what the day totals gained since the last call, of any replica, and returns the lifetime totals.

        Day totals that no replica ever counted are counted by the first call. Each gain is counted once.
        """

    async def list_balances(self, *windows: str) -> Mapping[tuple[str, str], BudgetBalance]:
        """Lists the balances of all teams, without those of their API keys, in these days and months, by team and
        window."""

    async def read_backlog(self) -> Backlog: ...

    async def exchange_heartbeats(self) -> Mapping[str, float]:
        """Records a heartbeat of this replica. Returns the seconds since the last one of each replica that did not
        close normally."""
