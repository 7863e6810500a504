"""The way behind a store's back: to see everything that it keeps, and to do damage."""

from typing import Any, Protocol

from gateway.jobs.commit import LedgerEntry
from gateway.store.books import Balance


class Raw(Protocol):
    def close(self) -> None: ...

    def empty(self) -> None:
        """Everything is gone, under a store that is open."""

    def dump(self) -> Any:
        """Everything that is kept; equal if and only if nothing has changed."""

    def forget_closing(self, owner: str) -> None:
        """What a store that was closed left behind, and one that was killed does not."""

    def due(self) -> dict[str, float]:
        """The jobs that somebody will look at, and when."""

    def balances(self) -> dict[tuple[str, str], Balance]:
        """Of every team and window in which something has happened."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Of all days."""

    def forget_what_is_over(self, seconds: float, now: float) -> None:
        """Stands in for a server that forgets by itself, on a clock that no test can move."""

    def lose_due(self, job: str) -> None: ...

    def make_due(self, job: str) -> None: ...

    def lose_open(self, job: str) -> None:
        """From the list of what is open."""

    def make_open(self, job: str) -> None: ...

    def lose_job(self, job: str) -> None: ...

    def change_balance(self, team: str, window: str, held: int = 0, spent: int = 0) -> None: ...

    def lose_entries(self, job: str) -> int:
        """How many ledger entries are gone."""

    def change_totals(self, day: str, amount: int) -> None:
        """Of every account of that day."""
