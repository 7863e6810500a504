"""Lifetime totals, balances, backlog and heartbeats of a store in memory."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.ledger_totals import BudgetBalance
from gateway.store.statistics import HEARTBEAT_TTL_SECONDS, Backlog, LifetimeTotal, OpenState, get_open_state
from tests.harness.memory_store.memory_state import MemoryState


class MemoryStatistics:
    """Implements StoreStatistics. Every call takes effect like a call of the store."""

    def __init__(self, state: MemoryState, run: Callable[..., Any], replica_id: str) -> None:
        self._state, self._run, self._replica_id = state, run, replica_id

    async def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        totals: tuple[LifetimeTotal, ...] = await self._run(
            "update_lifetime_totals", (), lambda _: self._state.ledger.update_lifetime_totals()
        )
        return totals

    async def list_balances(self, *windows: str) -> Mapping[tuple[str, str], BudgetBalance]:
        balances: Mapping[tuple[str, str], BudgetBalance] = await self._run(
            "list_balances", windows, lambda _: self._state.ledger.list_balances(windows)
        )
        return balances

    async def read_backlog(self) -> Backlog:
        backlog: Backlog = await self._run("read_backlog", (), self._compute_backlog)
        return backlog

    def _compute_backlog(self, now: float) -> Backlog:
        jobs = [stored.job for stored in self._state.open_jobs]
        counts = Counter(get_open_state(job) for job in jobs)
        return Backlog(
            jobs={state: counts[state] for state in OpenState},
            oldest_seconds=max((now - job.created_at for job in jobs), default=0.0),
            due_lag_seconds=max(0.0, now - min(self._state.due_times.values(), default=now)),
        )

    async def exchange_heartbeats(self) -> Mapping[str, float]:
        heartbeats: Mapping[str, float] = await self._run("exchange_heartbeats", (), self._exchange)
        return heartbeats

    def _exchange(self, now: float) -> dict[str, float]:
        heartbeats = self._state.heartbeats
        heartbeats[self._replica_id] = now
        return {name: now - at for name, at in heartbeats.items() if now - at <= HEARTBEAT_TTL_SECONDS}
