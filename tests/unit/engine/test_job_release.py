"""Which jobs a replica releases for other replicas, and for how long they are not due."""

import asyncio
import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.engine_context import EngineContext, ReleaseCounts
from gateway.engine.job_context import JobContext
from gateway.engine.offer_resolver import OfferResolver
from gateway.engine.unconfigured_job_release import MAX_SKIPPED_CLAIMS, JobReleaser
from gateway.events import ErrorReported
from gateway.jobs.job import RecoveryMethod, RouteEntry
from gateway.jobs.job_update_types import JobConfirmed, JobExpired
from gateway.jobs.next_actions import derive_actions
from gateway.timeouts_and_intervals import ClaimTiming, Timing
from providers.faults import FaultKind
from tests.harness.virtual_time_loop import run_in_virtual_time
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, START, JobScenario, make_new_job, make_route_entry


def make_offer(api_key: str | None) -> Any:
    account = SimpleNamespace(name="account", api_key=api_key)
    return SimpleNamespace(model="image", seller=SimpleNamespace(name="seller", account=account))


ENABLED_OFFER, DISABLED_OFFER = make_offer("known"), make_offer(None)

TIMING = ClaimTiming()


class FakeReplica:
    """A replica with these sellers. It records the delays and the events of its releases."""

    def __init__(self, *configured: str, disabled: tuple[str, ...] = ()) -> None:
        self.offers = dict.fromkeys(configured, ENABLED_OFFER) | dict.fromkeys(disabled, DISABLED_OFFER)
        self.delays: list[float] = []
        self.events: list[Any] = []
        self.now = START + 1.0
        self.release_counts = ReleaseCounts()
        self.draw_random = random.Random(1).random  # noqa: S311  repeatable

    def find_offer(self, seller: str, *_: object) -> Any:
        return self.offers.get(seller)

    def make_context(self) -> Any:
        catalogue = SimpleNamespace(find_offer=self.find_offer)
        context: Any = SimpleNamespace(
            catalogue=lambda: catalogue,
            store=self,
            emit=self.events.append,
            wall_clock=lambda: self.now,
            release_counts=self.release_counts,
            offer_resolver=OfferResolver(),
            draw_random=self.draw_random,
            timing=Timing(),
        )
        context.find_offer = lambda entry, model: EngineContext.find_offer(context, entry, model)
        context.is_configured = lambda entry, model: EngineContext.is_configured(context, entry, model)
        return context

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        self.delays.append(delay)
        return True

    def releases_job(self, scenario: JobScenario) -> bool:
        async def release_and_wait() -> bool:
            lease_lost = asyncio.Event()
            releaser = JobReleaser(JobContext(self.make_context(), scenario.job, FENCE), lease_lost.set)
            is_released = releaser.release_if_unservable(derive_actions(scenario.job, self.now, is_created_here=True))
            if is_released:
                async with asyncio.timeout(60):
                    await lease_lost.wait()
            return is_released

        return run_in_virtual_time(release_and_wait())


def make_waiting_job(*route: RouteEntry, n: int = 1) -> JobScenario:
    scenario = JobScenario(make_new_job(n=n, route=route))
    scenario.apply(JobConfirmed(), 0.0)
    return scenario


RUNAPI, RUNFLOW = make_route_entry("runapi", max_images=1), make_route_entry("runflow-runs", max_images=1)


def test_waiting_job_is_released_if_no_route_entry_is_configured() -> None:
    assert FakeReplica().releases_job(make_waiting_job(RUNAPI, RUNFLOW))
    assert FakeReplica("openai").releases_job(make_waiting_job(RUNAPI, RUNFLOW))
    assert FakeReplica(disabled=("runapi", "runflow-runs")).releases_job(make_waiting_job(RUNAPI, RUNFLOW))
    assert not FakeReplica("runflow-runs").releases_job(make_waiting_job(RUNAPI, RUNFLOW))


def test_waiting_job_is_released_after_configured_entries_failed() -> None:
    scenario = make_waiting_job(RUNAPI, RUNFLOW)
    scenario.start_attempt(1)
    scenario.fail_order(FaultKind.NO_CREDIT)
    assert FakeReplica("runflow-runs").releases_job(scenario)
    scenario.start_attempt(0)
    scenario.fail_order(FaultKind.NO_CREDIT)
    assert not FakeReplica().releases_job(scenario), "no seller is left, in any replica"


@pytest.mark.parametrize("recovery_method", [RecoveryMethod.REPLAY, RecoveryMethod.SEARCH, RecoveryMethod.CALLBACK])
def test_order_of_unconfigured_seller_is_released(recovery_method: RecoveryMethod) -> None:
    ticketed, without_response = (
        make_waiting_job(make_route_entry("runapi", recovery_method=recovery_method)),
        make_waiting_job(make_route_entry("runapi", recovery_method=recovery_method)),
    )
    ticketed.receive_ticket()
    without_response.lose_response()
    for scenario in (ticketed, without_response):
        assert FakeReplica("openai").releases_job(scenario)
        assert FakeReplica(disabled=("runapi",)).releases_job(scenario)
        assert not FakeReplica("runapi").releases_job(scenario)


def test_images_at_unconfigured_seller_are_released() -> None:
    scenario = make_waiting_job(make_route_entry("openai", is_pollable=False))
    scenario.start_attempt()
    scenario.report_images_ready(image_urls=("https://images.example/1",))
    assert FakeReplica().releases_job(scenario)
    assert not FakeReplica("openai").releases_job(scenario)


def test_job_is_kept_while_anything_can_be_done_here() -> None:
    """The response to an order in flight may still arrive, and only this process can receive it."""
    scenario = make_waiting_job(RUNAPI, RUNFLOW, n=2)
    scenario.start_attempt(0, (0,))
    assert not FakeReplica().releases_job(scenario)
    scenario.lose_response(1, (1,))
    assert not FakeReplica().releases_job(scenario)


def test_finished_job_is_never_released() -> None:
    scenario, replica = make_waiting_job(RUNAPI), FakeReplica()
    replica.now = START + DEADLINE_SECONDS + 1.0
    assert not replica.releases_job(scenario)
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS + 1.0)
    assert not replica.releases_job(scenario)
    assert replica.delays == []


def test_release_is_logged_once_and_repeated_with_growing_delay() -> None:
    scenario, replica = make_waiting_job(RUNAPI, RUNFLOW), FakeReplica()
    for _ in range(MAX_SKIPPED_CLAIMS + 5):
        assert replica.releases_job(scenario)
    [event] = replica.events
    assert isinstance(event, ErrorReported)
    assert event.job == scenario.job.id
    assert "runapi, runflow-runs: not configured in this replica" in event.message
    skipped_claims = [int(delay / TIMING.interval_seconds) for delay in replica.delays]
    assert skipped_claims == [*range(1, MAX_SKIPPED_CLAIMS + 1), *[MAX_SKIPPED_CLAIMS] * 5]
    assert all(delay % TIMING.interval_seconds < TIMING.interval_seconds / 2 for delay in replica.delays)
    assert any(earlier != later for earlier, later in pairwise(replica.delays[MAX_SKIPPED_CLAIMS:]))


def test_release_ends_at_job_deadline() -> None:
    scenario, replica = make_waiting_job(RUNAPI), FakeReplica()
    for remaining in (0.8, 0.001):
        replica.now = START + DEADLINE_SECONDS - remaining
        assert replica.releases_job(scenario)
    assert replica.delays == [pytest.approx(0.8), TIMING.min_release_seconds]


def test_overdue_job_is_not_due_again_at_once() -> None:
    """Its deadline is over, and its order is still awaited."""
    slow_entry = make_route_entry("runapi", timeout_seconds=2 * DEADLINE_SECONDS)
    scenario, replica = make_waiting_job(slow_entry), FakeReplica()
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS + 1.0)
    replica.now = START + DEADLINE_SECONDS + 2.0
    assert replica.releases_job(scenario)
    assert replica.delays[0] >= TIMING.interval_seconds


def test_release_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.engine_context.MAX_RELEASE_COUNTS", 2)
    release_counts = ReleaseCounts()
    assert [release_counts.increment(job) for job in ("a", "b", "a", "c", "a", "b")] == [0, 0, 1, 0, 2, 0]
