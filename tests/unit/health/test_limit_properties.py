"""Orders that start, wait, end, fail and are cancelled at random lose no slot and never share one."""

import asyncio
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.schema import AccountLimits
from gateway.health.account_limiters import AccountLimiters
from gateway.health.concurrency_limiter import SlotTimeout
from gateway.health.retry_budget import RetryBudget
from providers.faults import Fault, FaultKind
from tests.harness.virtual_time_loop import in_virtual_time


class RandomOrders:
    """Orders with random behaviour, and checks that must hold at every moment."""

    def __init__(self, seed: int, allowed: AccountLimits) -> None:
        self.random_numbers = Random(seed)  # noqa: S311 - repeatable chance for a test
        self.account_limits, self.now = allowed, 0.0
        self.in_flight = 0
        self.limits = AccountLimiters(lambda: self.now, {"a": allowed})

    async def place_order(self) -> None:
        await self.yield_randomly()
        try:
            async with self.limits.slot("a", self.random_numbers.choice([0, 0.0001, 0.001, 5])):
                await self.hold_slot()
        except (SlotTimeout, LookupError):
            await self.yield_randomly()

    async def hold_slot(self) -> None:
        self.in_flight += 1
        try:
            assert self.in_flight <= self.limits.count_in_flight("a") <= (self.account_limits.concurrency or 0)
            await self.yield_randomly()
            if self.random_numbers.random() < 0.2:
                raise LookupError
        finally:
            self.in_flight -= 1

    async def yield_randomly(self) -> None:
        for _ in range(self.random_numbers.randrange(4)):
            await asyncio.sleep(0)

    async def disturb_randomly(self, tasks: list["asyncio.Task[None]"]) -> None:
        for _ in range(40):
            await self.yield_randomly()
            match self.random_numbers.randrange(4):
                case 0 | 1:
                    self.random_numbers.choice(tasks).cancel()
                case 2:
                    self.now += self.random_numbers.choice([0.5, 10, 61])
                case 3:
                    retry_after = self.random_numbers.choice([None, 1.0])
                    self.limits.on_fault("a", Fault(kind=FaultKind.RATE_LIMITED, retry_after=retry_after))

    async def run_all(self) -> None:
        tasks = [asyncio.create_task(self.place_order()) for _ in range(25)]
        await self.disturb_randomly(tasks)
        while not all(task.done() for task in tasks):
            # Time must pass, so that pauses and rate limits end, and a configuration call must admit the waiters.
            self.now += 30
            self.limits.configure({"a": self.account_limits})
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)


ACCOUNT_LIMITS = st.builds(
    AccountLimits, concurrency=st.integers(1, 6), per_minute=st.one_of(st.none(), st.integers(1, 8))
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1_000_000), ACCOUNT_LIMITS)
@in_virtual_time
async def test_no_slot_is_lost_or_given_twice(seed: int, allowed: AccountLimits) -> None:
    orders = RandomOrders(seed, allowed)
    await orders.run_all()
    assert orders.in_flight == orders.limits.count_in_flight("a") == 0
    orders.now += 1_000
    assert orders.limits.get_load("a") == 0
    orders.limits.configure({"a": AccountLimits(concurrency=allowed.concurrency)})
    slots = [orders.limits.slot("a", 0) for _ in range(allowed.concurrency or 0)]
    for slot in slots:
        await slot.__aenter__()
    assert orders.limits.get_load("a") == 1
    for slot in slots:
        await slot.__aexit__(None, None, None)


@settings(max_examples=100)
@given(st.integers(1, 8), st.lists(st.floats(0, 40), max_size=60))
@in_virtual_time
async def test_no_minute_exceeds_rate_limit(per_minute: int, steps: list[float]) -> None:
    now, starts = 0.0, []
    limits = AccountLimiters(lambda: now, {"a": AccountLimits(per_minute=per_minute)})
    for step in steps:
        now += step
        is_full = len([start for start in starts if start + 60 > now]) >= per_minute
        assert (limits.get_load("a") >= 1) is is_full
        try:
            async with limits.slot("a", 0):
                starts.append(now)
            assert not is_full
        except SlotTimeout:
            assert is_full


@settings(max_examples=100)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=200))
def test_retries_never_exceed_their_share_of_last_minute(events: list[tuple[bool, float]]) -> None:
    budget, now = RetryBudget(), 0.0
    order_times: list[float] = []
    retry_times: list[float] = []
    for is_retry, step in events:
        now += step
        if not is_retry:
            budget.record_first_order(now)
            order_times.append(now)
        elif budget.can_retry(now):
            # The window is counted in whole seconds, so it covers 59 to 60 of them.
            recent_orders = len([time for time in order_times if time > now - 60])
            assert len([time for time in retry_times if time > now - 59]) < max(3, recent_orders / 10)
            budget.record_retry(now)
            retry_times.append(now)
