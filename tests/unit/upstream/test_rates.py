"""How many orders are sent in a minute, and what sellers' complaints change."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.upstream import lanes
from gateway.upstream.limits import NoSlot
from providers.faults import FaultKind
from tests.unit.upstream.limited import SOON, Clock, complaint, limited, places, running


def test_no_more_orders_are_sent_in_any_minute_than_are_allowed() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limited(clock, per_minute=3)
        assert await places(limits, 2) == 2
        clock.now += 59
        assert await places(limits) == 1
        assert limits.load("a") >= 1
        clock.now += 1
        assert limits.load("a") == 0
        assert await places(limits) == 2
        clock.now += 59
        assert await places(limits) == 1

    asyncio.run(scenario())


def test_who_waits_for_the_next_minute_is_let_in_when_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MINUTE", 0.1)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limits, start = limited(loop.time, per_minute=1), loop.time()
        for _ in range(3):
            async with limits.slot("a", SOON):
                pass
        assert 0.2 <= loop.time() - start < 2

    asyncio.run(scenario())


# --- what sellers say


@pytest.mark.parametrize("kind", [FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED])
@pytest.mark.parametrize(("retry_after", "seconds"), [(20, 20), (0, 1), (-1, 1), (90_000, 300)])
def test_nothing_is_sent_before_the_time_that_the_seller_names(
    kind: FaultKind, retry_after: float, seconds: float
) -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limited(clock)
        limits.hold("a", complaint(retry_after, kind))
        clock.now += seconds - 0.01
        assert limits.load("a") >= 1
        assert await places(limits) == 0
        clock.now += 0.01
        assert limits.load("a") == 0
        assert await places(limits) == 40

    asyncio.run(scenario())


ABOUT_PACE = {FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED}


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in ABOUT_PACE])
def test_other_faults_hold_nobody_up(kind: FaultKind) -> None:
    limits = limited(concurrency=4)
    limits.hold("a", complaint(60, kind))
    assert limits.load("a") == 0


def test_nobody_waits_for_a_pause_that_is_longer_than_he_can_wait() -> None:
    async def scenario() -> None:
        limits = limited()
        limits.hold("a", complaint(60))
        async with asyncio.timeout(SOON):
            with pytest.raises(NoSlot):
                async with limits.slot("a", 30):
                    pass
        assert limits.load("a") >= 1

    asyncio.run(scenario())


def test_who_waits_during_a_pause_is_let_in_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.limits.seconds_to_wait", lambda seconds: seconds)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limits, start = limited(loop.time), loop.time()
        limits.hold("a", complaint(0.1))
        async with limits.slot("a", SOON):
            assert 0.1 <= loop.time() - start < 2

    asyncio.run(scenario())


def test_nobody_overtakes_those_who_have_waited_for_the_end_of_a_pause() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limited(clock, concurrency=1)
        limits.hold("a", complaint(60))

        async def wait() -> None:
            async with limits.slot("a", 60 + SOON):
                assert clock.now == 1_060

        with running(wait()) as (waiting,):
            await asyncio.sleep(0)
            clock.now += 60
            assert await places(limits) == 0
            await waiting

    asyncio.run(scenario())


def test_too_fast_halves_what_is_sent_at_once_and_it_recovers_one_by_one() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits, allowed = limited(clock, concurrency=8), []
        for _ in range(4):
            clock.now += 2
            limits.hold("a", complaint())
            allowed.append(await places(limits))
        assert allowed == [4, 2, 1, 1]
        for expected in range(1, 8):
            assert await places(limits) == expected
            clock.now += 9.9
            assert await places(limits) == expected
            clock.now += 0.1
        assert await places(limits) == 8
        clock.now += 1_000
        assert await places(limits) == 8

    asyncio.run(scenario())


def test_complaints_about_orders_that_were_sent_together_are_one() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=8)
        for _ in range(8):
            limits.hold("a", complaint())
        assert await places(limits) == 4

    asyncio.run(scenario())


def test_where_nothing_is_limited_it_is_the_observed_peak_that_is_halved() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limited(clock)
        assert await places(limits, 10) == 10
        limits.hold("a", complaint())
        assert await places(limits) == 5
        clock.now += 49
        assert await places(limits) == 9
        clock.now += 1
        assert await places(limits) == 40

    asyncio.run(scenario())


def test_where_nothing_is_known_nothing_is_halved() -> None:
    async def scenario() -> None:
        clock = Clock()
        limits = limited(clock)
        limits.hold("a", complaint())
        assert await places(limits) == 40
        clock.now += 120
        limits.hold("a", complaint())
        assert await places(limits) == 40, "what was seen more than a minute before is not what the seller minds"

    asyncio.run(scenario())


def test_who_waits_is_let_in_as_it_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "RECOVERY_SECONDS", 0.05)

    async def scenario() -> None:
        limits = limited(asyncio.get_running_loop().time, concurrency=4)
        limits.hold("a", complaint())
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(limits.slot("a", SOON))
            assert limits.in_progress("a") == 4

    asyncio.run(scenario())
