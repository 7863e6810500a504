"""A callback is heard once, unless that failed; and whoever comes meanwhile is told what came of it."""

import asyncio

import pytest

from gateway.engine import seen_callbacks
from gateway.engine.seen_callbacks import SeenCallbacks, digest_of
from providers import ADAPTERS

ATTEMPT = ("job_1", 1)


async def used(fence: int | None) -> bool:
    return True


class Ear:
    def __init__(self, *failures: Exception) -> None:
        self.heard, self.may_end, self._failures = 0, asyncio.Event(), list(failures)

    async def __call__(self) -> int:
        self.heard += 1
        await self.may_end.wait()
        if self._failures:
            raise self._failures.pop()
        return self.heard


def test_same_callback_is_heard_once_and_those_that_come_meanwhile_end_as_it_does() -> None:
    async def story() -> None:
        seen, ear = SeenCallbacks(), Ear()
        calls = [asyncio.create_task(seen.hear(ATTEMPT, b"x", ear, used)) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)
        ear.may_end.set()
        assert sorted(await asyncio.gather(*calls)) == [False] * 99 + [True]
        assert await seen.hear(ATTEMPT, b"x", ear, used) is False
        assert ear.heard == 1
        assert await seen.hear(ATTEMPT, b"y", ear, used)
        assert await seen.hear(("job_1", 2), b"x", ear, used)

    asyncio.run(story())


def test_callback_that_could_not_be_heard_is_heard_when_it_comes_again() -> None:
    async def story() -> None:
        seen, ear = SeenCallbacks(), Ear(OSError("not now"))
        calls = [asyncio.create_task(seen.hear(ATTEMPT, b"x", ear, used)) for _ in range(10)]
        ear.may_end.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, OSError) for outcome in outcomes)
        assert await seen.hear(ATTEMPT, b"x", ear, used)
        assert ear.heard == 2

    asyncio.run(story())


def test_redelivery_is_processed_once_more_if_the_first_delivery_was_not_used() -> None:
    async def story() -> None:
        seen, ear = SeenCallbacks(), Ear()
        ear.may_end.set()
        current_fence = 1

        async def is_used(fence: int | None) -> bool:
            await asyncio.sleep(0)
            return fence == current_fence

        assert await seen.hear(ATTEMPT, b"x", ear, is_used)
        assert await seen.hear(ATTEMPT, b"x", ear, is_used) is False
        current_fence = 2
        redeliveries = await asyncio.gather(*(seen.hear(ATTEMPT, b"x", ear, is_used) for _ in range(10)))
        assert (redeliveries.count(True), ear.heard) == (1, 2)
        assert await seen.hear(ATTEMPT, b"x", ear, is_used) is False

    asyncio.run(story())


def test_caller_that_hangs_up_does_not_stop_what_others_wait_for() -> None:
    async def story() -> None:
        seen, ear = SeenCallbacks(), Ear()
        first = asyncio.create_task(seen.hear(ATTEMPT, b"x", ear, used))
        second = asyncio.create_task(seen.hear(ATTEMPT, b"x", ear, used))
        await asyncio.sleep(0.01)
        first.cancel()
        ear.may_end.set()
        assert await second is False
        assert first.cancelled()
        assert await seen.hear(ATTEMPT, b"x", ear, used) is False
        assert ear.heard == 1

    asyncio.run(story())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_callbacks, "MAX_ATTEMPTS", 5)
    monkeypatch.setattr(seen_callbacks, "MAX_PER_ATTEMPT", 3)

    async def story() -> None:
        seen, ear = SeenCallbacks(), Ear()
        ear.may_end.set()
        for number in range(50):
            for digest in range(10):
                assert await seen.hear((f"job_{number}", 1), b"%d" % digest, ear, used)
        assert [name for name, _ in seen._seen] == [f"job_{number}" for number in range(45, 50)]
        assert all(list(one) == [b"7", b"8", b"9"] for one in seen._seen.values())

    asyncio.run(story())


def test_digest_tells_by_name_and_content_and_not_by_signature() -> None:
    runapi, runflow = ADAPTERS["runapi"].callback, ADAPTERS["runflow_runs"].callback
    assert runapi is not None
    assert runflow is not None
    again = {"x-callback-id": "a", "x-callback-timestamp": "1", "x-callback-signature": "s"}
    first = digest_of(runapi, again, b"body")
    assert digest_of(runapi, again | {"x-callback-timestamp": "2", "x-callback-signature": "t"}, b"body") == first
    assert digest_of(runapi, again | {"x-callback-id": "b"}, b"body") != first
    assert digest_of(runapi, again, b"other") != first
    assert digest_of(runapi, {"x-callback-id": "half \udc00"}, b"") != digest_of(runapi, {}, b"")
    assert digest_of(runflow, {"runflow-signature": "s"}, b"body") == digest_of(runflow, {}, b"body")
