"""Soft thresholds of budgets are announced once for each budget, window and threshold, by any of several replicas."""

import asyncio
import secrets
from contextlib import suppress
from typing import Any

import pytest

from gateway.access.budget_administration import BudgetAdministration, RaiseBudgetRequest
from gateway.access.budget_events import BudgetThresholdReached
from gateway.access.budget_threshold_announcer import BudgetThresholdAnnouncer
from gateway.access.key_administration import Admin, KeyAdministration
from gateway.access.key_tokens import TokenDigester
from gateway.catalogue import Catalogue
from gateway.config.budget_schema import BudgetConfig
from gateway.config.schema import PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.value_types import SecretRef, TargetName, Usd, WebhookUrl
from gateway.config.webhook_schema import WebhooksConfig, WebhookTargetConfig
from gateway.events import Event
from gateway.jobs.budgets import WindowKind
from gateway.store.base import DAY_SECONDS, Store
from gateway.store.budget_overrides import list_overrides
from gateway.store.partitions import PARTITIONS
from gateway.store.team_records import RecordKind
from gateway.webhooks.webhook_records import decode_delivery
from tests.harness.memory_store import MemoryState, MemoryStore, StoreCall
from tests.store import job_factory
from tests.store.job_factory import PRICE
from tests.store.store_harness import StoreHarness, make_memory_harness

URL = WebhookUrl.parse("https://hooks.example.com/budgets")
WEBHOOKS = WebhooksConfig(
    secrets=(SecretRef("env:SECRET"),),
    targets={
        TargetName.parse("budgets"): WebhookTargetConfig(url=URL, events=("budget.threshold_reached",)),
        TargetName.parse("jobs"): WebhookTargetConfig(url=URL),
    },
)
# Ten images.
TEAMS = {"acme": TeamConfig(budget=BudgetConfig(day=Usd(10 * PRICE), month=Usd(100 * PRICE)), webhooks=WEBHOOKS)}


def make_budgets(harness: StoreHarness, store: Store, emitted: list[Event]) -> BudgetAdministration:
    catalogue = Catalogue(
        hash="",
        models={},
        aliases={},
        accounts={},
        sellers={},
        offers={},
        policies=PoliciesFile(policies={}, default=""),
        teams=TEAMS,
        reload=ReloadConfig(),
    )
    keys = KeyAdministration(
        store.api_keys, TokenDigester((b"s" * 32,)), lambda: catalogue, harness.clock, secrets.token_bytes
    )
    return BudgetAdministration(
        store=store,
        keys=keys,
        catalogue=lambda: catalogue,
        wall_clock=harness.clock,
        draw_bytes=secrets.token_bytes,
        emit=emitted.append,
    )


def make_announcer(harness: StoreHarness, store: Store, emitted: list[Event]) -> BudgetThresholdAnnouncer:
    return BudgetThresholdAnnouncer(make_budgets(harness, store, emitted), harness.clock)


def list_announced(emitted: list[Event]) -> list[tuple[str, str, int]]:
    events = [event for event in emitted if isinstance(event, BudgetThresholdReached)]
    return [(event.window, event.period, event.threshold) for event in events]


async def list_webhooks(store: Store) -> list[tuple[str, Any]]:
    records = await store.team_records.list_records(RecordKind.DELIVERY, "acme", 100)
    webhooks = [decode_delivery(record) for record in records]
    assert {webhook.event for webhook in webhooks} <= {"budget.threshold_reached"}
    return sorted((webhook.target, (webhook.data or {})["threshold"]) for webhook in webhooks)


async def spend(harness: StoreHarness, images: int) -> None:
    for _ in range(images):
        await harness.create_settled_job()


async def test_each_threshold_is_announced_once_in_its_window(harness: StoreHarness) -> None:
    emitted: list[Event] = []
    replicas = [make_announcer(harness, harness.store, emitted) for _ in range(2)]

    async def check() -> None:
        # Later than the next comparison of all budgets.
        harness.advance_time(61.0)
        await asyncio.gather(*(replica.check() for replica in replicas))

    await spend(harness, 4)
    await check()
    assert list_announced(emitted) == []
    await spend(harness, 1)
    await check()
    assert list_announced(emitted) == [("day", "2040-05-10", 50)]
    await spend(harness, 5)
    for _ in range(3):
        await check()
    assert sorted(list_announced(emitted)) == sorted(("day", "2040-05-10", percent) for percent in (50, 80, 100))
    assert await list_webhooks(harness.store) == [("budgets", 50), ("budgets", 80), ("budgets", 100)]
    harness.advance_time(DAY_SECONDS)
    await spend(harness, 5)
    await check()
    assert list_announced(emitted)[3:] == [("day", "2040-05-11", 50)]


async def spend_after_midnight(harness: StoreHarness) -> None:
    """Creates ten jobs before midnight, whose images arrive after it: their money counts for the day before."""
    harness.clock.now = job_factory.parse_utc_time("2040-05-10T23:59:50")
    jobs = [await harness.create_job() for _ in range(10)]
    jobs = [await harness.apply_updates(job, job_factory.make_attempt_started(job)) for job in jobs]
    harness.clock.now += 15.0
    for job in jobs:
        await harness.apply_updates(job, job_factory.make_images_stored(job))


async def test_money_that_is_booked_after_its_window_is_announced_once(harness: StoreHarness) -> None:
    emitted: list[Event] = []
    replicas = [make_announcer(harness, harness.store, emitted) for _ in range(2)]
    await asyncio.gather(*(replica.check() for replica in replicas))
    await spend_after_midnight(harness)
    for hours in (0.0, 1.0, 6.0, 6.0, 30.0):
        harness.advance_time(61.0 + 3_600.0 * hours)
        # One of them is restarted meanwhile.
        replicas[1] = make_announcer(harness, harness.store, emitted)
        await asyncio.gather(*(replica.check() for replica in replicas))
        assert sorted(list_announced(emitted)) == sorted(("day", "2040-05-10", percent) for percent in (50, 80, 100))
        assert await list_webhooks(harness.store) == [("budgets", 50), ("budgets", 80), ("budgets", 100)]


async def test_record_of_a_late_threshold_outlives_the_comparison(harness: StoreHarness) -> None:
    announcer = make_announcer(harness, harness.store, [])
    await spend_after_midnight(harness)
    await announcer.check()
    records = harness.store.team_records
    for hours, record_count in ((47.9, 3), (0.2, 0)):
        harness.advance_time(3_600.0 * hours)
        await announcer.check()
        assert len(await records.list_records(RecordKind.BUDGET_THRESHOLD, "acme", 9)) == record_count


async def test_limit_that_was_raised_until_the_end_of_the_window_is_not_reached_after_it(harness: StoreHarness) -> None:
    harness.clock.now = job_factory.parse_utc_time("2040-05-10T23:00:00")
    emitted: list[Event] = []
    budgets = make_budgets(harness, harness.store, emitted)
    announcer = make_announcer(harness, harness.store, emitted)
    request = RaiseBudgetRequest(
        team="acme", window=WindowKind.DAY, amount="0.60", reason="launch", until="2040-05-11T00:00Z"
    )
    await budgets.raise_budget(request, Admin("admin", "test"))
    await spend_after_midnight(harness)
    for _ in range(2):
        harness.advance_time(61.0)
        await announcer.check()
        assert list_announced(emitted) == [("day", "2040-05-10", 50)]
        # The second time it is no longer stored.
        await budgets.expire_overrides()
        assert await list_overrides(harness.store, "acme") == ()


async def test_racing_replicas_announce_a_threshold_once(shared_harness: StoreHarness) -> None:
    harness, emitted = shared_harness, list[Event]()
    async with harness.open_another("two") as two:
        replicas = [make_announcer(harness, store, emitted) for store in (harness.store, two)]
        await spend(harness, 10)
        for _ in range(3):
            await asyncio.gather(*(replica.check() for replica in replicas))
        assert sorted(list_announced(emitted)) == sorted(("day", "2040-05-10", percent) for percent in (50, 80, 100))
        assert await list_webhooks(two) == [("budgets", 50), ("budgets", 80), ("budgets", 100)]


class ReplicaCrash:
    """Crashes the replica at one of its calls: before the effect of the call, or after it."""

    def __init__(self, number: int, *, is_after_effect: bool) -> None:
        self.calls_left, self._is_after_effect = number, is_after_effect
        self.store: MemoryStore | None = None

    async def before_call(self, call: StoreCall) -> None:
        self.calls_left -= 1
        if not self._is_after_effect:
            self._crash_if_due()

    async def after_call(self, call: StoreCall, result: object) -> None:
        if self._is_after_effect:
            self._crash_if_due()

    def _crash_if_due(self) -> None:
        if self.calls_left == 0 and self.store is not None:
            self.store.kill()


@pytest.mark.parametrize("is_after_effect", [False, True])
def test_crash_at_any_call_leaves_one_webhook_for_each_threshold(is_after_effect: bool) -> None:
    """The log and the metric may lack a threshold whose replica crashed right after its last call."""
    number, has_crashed = 0, True
    while has_crashed:
        number += 1
        harness = make_memory_harness(MemoryState(PARTITIONS))
        crash = ReplicaCrash(number, is_after_effect=is_after_effect)
        harness.run_async(check_with_crash(harness, crash))
        harness.close()
        has_crashed = crash.calls_left <= 0
    assert number > 10


async def check_with_crash(harness: StoreHarness, crash: ReplicaCrash) -> None:
    emitted: list[Event] = []
    await spend(harness, 10)
    async with harness.open_another("two", interceptor=crash) as store:
        assert isinstance(store, MemoryStore)
        crash.store = store
        with suppress(asyncio.CancelledError):
            await make_announcer(harness, store, emitted).check()
    for _ in range(2):
        await make_announcer(harness, harness.store, emitted).check()
        harness.advance_time(61.0)
    announced = list_announced(emitted)
    assert len(set(announced)) == len(announced) >= 2
    assert await list_webhooks(harness.store) == [("budgets", 50), ("budgets", 80), ("budgets", 100)]


async def test_record_of_a_window_that_is_over_is_deleted(harness: StoreHarness) -> None:
    announcer = make_announcer(harness, harness.store, [])
    await spend(harness, 5)
    await announcer.check()
    records = harness.store.team_records
    assert len(await records.list_records(RecordKind.BUDGET_THRESHOLD, "acme", 9)) == 1
    harness.advance_time(2.4 * DAY_SECONDS)
    await announcer.check()
    assert len(await records.list_records(RecordKind.BUDGET_THRESHOLD, "acme", 9)) == 1
    harness.advance_time(0.2 * DAY_SECONDS)
    await announcer.check()
    assert await records.list_records(RecordKind.BUDGET_THRESHOLD, "acme", 9) == ()
