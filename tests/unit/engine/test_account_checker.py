"""Checks of accounts: who is due, and what the answers of sellers say."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.catalogue import Seller
from gateway.engine.account_checker import (
    AccountChecker,
    get_recent_balance,
    interpret_status,
    list_checkable_accounts,
)
from gateway.engine.account_events import AccountRestored
from gateway.health.account_check import AccountCheck, CheckOutcome
from gateway.health.health_tracker import HealthKey, HealthTracker, OrderOutcome
from gateway.timeouts_and_intervals import MaintenanceTiming, Timing
from providers import ADAPTERS
from providers.account_status import AccountStatus
from providers.adapter import Answer
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.unit.health.health_samples import HIGH_CELL, START, make_account
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_offer, make_uniform_prices

PRICE = 160_000
TIMING = MaintenanceTiming()
OFFER = make_offer("tasks", make_uniform_prices(PRICE), account=make_account("runapi"))


class CheckedReplicas:
    """Replicas with one account at RunAPI, and its seller. `answer`: to each query."""

    def __init__(self, replica_count: int = 1) -> None:
        self.now = START
        self.answer: Answer | NoAnswer = make_balance_answer(2_000)
        self.query_count = 0
        self.events: list[Any] = []
        seller = Seller("tasks", make_account("runapi"), ADAPTERS["runapi"])
        self.catalogue = make_catalogue([replace(OFFER, seller=seller)])
        self.trackers = [HealthTracker(f"replica-{number}") for number in range(replica_count)]
        self.contexts: list[Any] = [self._make_context(health) for health in self.trackers]
        self.checkers = [AccountChecker(context) for context in self.contexts]

    def _make_context(self, health: HealthTracker) -> Any:
        health.configure(self.catalogue.accounts, START)
        return SimpleNamespace(
            health=health,
            timing=Timing(),
            wall_clock=lambda: self.now,
            catalogue=lambda: self.catalogue,
            seller_client=self,
            emit=self.events.append,
        )

    async def send(self, *_: object) -> Answer | NoAnswer:
        self.query_count += 1
        return self.answer

    def run(self, seconds: float) -> None:
        """Lets the replicas look which accounts are due, one after the other, and then share their health."""
        for _ in range(int(seconds / TIMING.account_poll_seconds)):
            for checker in self.checkers:
                asyncio.run(checker.check_due_accounts())
                self.share()
            self.now += TIMING.account_poll_seconds

    def share(self) -> None:
        snapshots = {f"replica-{number}": health.make_snapshot(self.now) for number, health in enumerate(self.trackers)}
        for health in self.trackers:
            health.merge_snapshots(snapshots, self.now)

    def refuse(self, health: HealthTracker) -> None:
        key = HealthKey("tasks", "runapi", MODEL, HIGH_CELL)
        health.record(key, OrderOutcome(fault=FaultKind.NO_CREDIT, elapsed_seconds=0.0), self.now)


def make_balance_answer(cents: int) -> Answer:
    return Answer(200, {}, b'{"balance_cents": %d}' % cents)


@pytest.mark.parametrize("replica_count", [1, 3])
def test_one_replica_reads_the_balance_for_all(replica_count: int) -> None:
    replicas = CheckedReplicas(replica_count)
    replicas.run(TIMING.account_interval_seconds)
    assert replicas.query_count == 1
    assert [get_recent_balance(context, "runapi") for context in replicas.contexts] == [20_000_000] * replica_count
    replicas.answer = make_balance_answer(1_500)
    replicas.run(2 * TIMING.account_interval_seconds)
    assert replicas.query_count == 3
    assert [get_recent_balance(context, "runapi") for context in replicas.contexts] == [15_000_000] * replica_count


def test_next_replica_continues_if_the_first_one_stops() -> None:
    replicas = CheckedReplicas(2)
    replicas.run(TIMING.account_poll_seconds)
    del replicas.checkers[0]
    replicas.run(TIMING.account_interval_seconds + 3 * TIMING.account_poll_seconds)
    assert replicas.query_count == 2


def test_refused_account_is_asked_more_often_until_it_has_credit() -> None:
    replicas = CheckedReplicas(2)
    replicas.run(TIMING.account_poll_seconds)
    replicas.refuse(replicas.trackers[1])
    replicas.share()
    replicas.answer = make_balance_answer(15)
    replicas.run(4 * TIMING.refused_account_interval_seconds)
    assert 1 + 3 <= replicas.query_count <= 1 + 4
    assert replicas.events == []
    replicas.answer = make_balance_answer(16)
    replicas.run(2 * TIMING.refused_account_interval_seconds)
    assert replicas.events == [AccountRestored(account="runapi", fault=FaultKind.NO_CREDIT, balance=160_000)]


def test_check_without_an_answer_is_repeated_and_an_old_balance_is_not_shown() -> None:
    replicas = CheckedReplicas()
    replicas.run(TIMING.account_poll_seconds)
    replicas.answer = NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST))
    replicas.run(TIMING.account_interval_seconds + 60)
    assert replicas.query_count == 1 + 5, "every 15 seconds"
    assert get_recent_balance(replicas.contexts[0], "runapi") == 20_000_000
    replicas.now = START + TIMING.balance_max_age_seconds + 1
    assert get_recent_balance(replicas.contexts[0], "runapi") is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (AccountStatus(PRICE), AccountCheck(START, CheckOutcome.VALID, PRICE)),
        (AccountStatus(PRICE - 1), AccountCheck(START, CheckOutcome.LOW_CREDIT, PRICE - 1)),
        (AccountStatus(-1), AccountCheck(START, CheckOutcome.LOW_CREDIT, -1)),
        (AccountStatus(), AccountCheck(START, CheckOutcome.VALID)),
        (FaultKind.INVALID_KEY, AccountCheck(START, CheckOutcome.INVALID_KEY)),
        (FaultKind.NO_CREDIT, AccountCheck(START, CheckOutcome.LOW_CREDIT)),
        (FaultKind.FORBIDDEN, AccountCheck(START, CheckOutcome.UNSUPPORTED)),
        (FaultKind.NOT_FOUND, AccountCheck(START, CheckOutcome.UNSUPPORTED)),
        (FaultKind.SERVER_ERROR, None),
        (FaultKind.RATE_LIMITED, None),
        (FaultKind.NOT_SENT, None),
    ],
)
def test_answer_to_a_check_is_interpreted(status: AccountStatus | FaultKind, expected: AccountCheck | None) -> None:
    answer = NoAnswer(fault=Fault(kind=status)) if isinstance(status, FaultKind) else status
    assert interpret_status(answer, PRICE, START) == expected


def test_dearest_image_of_an_account_counts() -> None:
    [checkable] = list_checkable_accounts(CheckedReplicas().catalogue)
    assert (checkable.account.name, checkable.dearest_price) == ("runapi", PRICE)
