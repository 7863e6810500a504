"""However orders come, wait, end, fail and are cancelled: no place is lost, none is given twice."""

import asyncio
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.blocks import AccountLimits
from gateway.upstream.limits import Limits, NoSlot, OrderBudget
from providers.faults import Fault, FaultKind


class Crowd:
    """Orders that do what chance says, and what is true of them all the while."""

    def __init__(self, seed: int, allowed: AccountLimits) -> None:
        self.chance = Random(seed)  # noqa: S311 - repeatable chance for a test
        self.allowed, self.now = allowed, 0.0
        self.inside = 0
        self.limits = Limits(lambda: self.now, {"a": allowed})

    async def order(self) -> None:
        await self.rest()
        try:
            async with self.limits.slot("a", self.chance.choice([0, 0.0001, 0.001, 5])):
                await self.be_inside()
        except (NoSlot, LookupError):
            await self.rest()

    async def be_inside(self) -> None:
        self.inside += 1
        try:
            assert self.inside <= self.limits.in_progress("a") <= (self.allowed.concurrency or 0)
            await self.rest()
            if self.chance.random() < 0.2:
                raise LookupError
        finally:
            self.inside -= 1

    async def rest(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    async def disturb(self, tasks: list["asyncio.Task[None]"]) -> None:
        for _ in range(40):
            await self.rest()
            match self.chance.randrange(4):
                case 0 | 1:
                    self.chance.choice(tasks).cancel()
                case 2:
                    self.now += self.chance.choice([0.5, 10, 61])
                case 3:
                    retry_after = self.chance.choice([None, 1.0])
                    self.limits.hold("a", Fault(kind=FaultKind.RATE_LIMITED, retry_after=retry_after))

    async def live(self) -> None:
        tasks = [asyncio.create_task(self.order()) for _ in range(25)]
        await self.disturb(tasks)
        while not all(task.done() for task in tasks):
            # Time must go on, or nobody is let in whom a pause or the rate keeps out; and somebody has to look.
            self.now += 30
            self.limits.configure({"a": self.allowed})
            await asyncio.sleep(0)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended)


LIMITS = st.builds(AccountLimits, concurrency=st.integers(1, 6), per_minute=st.one_of(st.none(), st.integers(1, 8)))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1_000_000), LIMITS)
def test_no_place_is_lost_and_none_is_given_twice(seed: int, allowed: AccountLimits) -> None:
    async def scenario() -> None:
        crowd = Crowd(seed, allowed)
        await crowd.live()
        assert crowd.inside == crowd.limits.in_progress("a") == 0
        crowd.now += 1_000
        assert crowd.limits.load("a") == 0
        crowd.limits.configure({"a": AccountLimits(concurrency=allowed.concurrency)})
        slots = [crowd.limits.slot("a", 0) for _ in range(allowed.concurrency or 0)]
        for slot in slots:
            await slot.__aenter__()
        assert crowd.limits.load("a") == 1
        for slot in slots:
            await slot.__aexit__(None, None, None)

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.lists(st.floats(0, 40), max_size=60))
def test_no_minute_sees_more_orders_than_are_allowed(per_minute: int, steps: list[float]) -> None:
    async def scenario() -> None:
        now, starts = 0.0, []
        limits = Limits(lambda: now, {"a": AccountLimits(per_minute=per_minute)})
        for step in steps:
            now += step
            is_full = len([start for start in starts if start + 60 > now]) >= per_minute
            assert (limits.load("a") >= 1) is is_full
            try:
                async with limits.slot("a", 0):
                    starts.append(now)
                assert not is_full
            except NoSlot:
                assert is_full

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=200))
def test_extra_orders_never_pass_their_share_of_the_last_minute(events: list[tuple[bool, float]]) -> None:
    budget, now = OrderBudget(), 0.0
    ordered: list[float] = []
    added: list[float] = []
    for is_extra, step in events:
        now += step
        if not is_extra:
            budget.ordered(now)
            ordered.append(now)
        elif budget.may_add(now):
            # Counted in whole seconds, so a minute is 59 to 60 of them.
            in_the_minute = len([one for one in ordered if one > now - 60])
            assert len([one for one in added if one > now - 59]) < max(3, in_the_minute / 10)
            budget.added(now)
            added.append(now)
