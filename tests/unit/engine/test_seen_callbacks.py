"""A callback is processed once, unless that failed; redeliveries that arrive meanwhile share its outcome."""

import asyncio

import pytest

from gateway.engine import seen_callbacks
from gateway.engine.seen_callbacks import SeenCallbacks, digest_of
from providers import ADAPTERS

ATTEMPT = ("job_1", 1)


async def is_used(fence: int | None) -> bool:
    return True


class Processor:
    def __init__(self, *failures: Exception) -> None:
        self.count, self.may_end, self._failures = 0, asyncio.Event(), list(failures)

    async def __call__(self) -> int:
        self.count += 1
        await self.may_end.wait()
        if self._failures:
            raise self._failures.pop()
        return self.count


def test_callback_is_processed_once_and_concurrent_redeliveries_share_its_outcome() -> None:
    async def story() -> None:
        seen, processor = SeenCallbacks(), Processor()
        calls = [asyncio.create_task(seen.process(ATTEMPT, b"x", processor, is_used)) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)
        processor.may_end.set()
        assert sorted(await asyncio.gather(*calls)) == [False] * 99 + [True]
        assert await seen.process(ATTEMPT, b"x", processor, is_used) is False
        assert processor.count == 1
        assert await seen.process(ATTEMPT, b"y", processor, is_used)
        assert await seen.process(("job_1", 2), b"x", processor, is_used)

    asyncio.run(story())


def test_callback_that_failed_is_processed_when_it_is_redelivered() -> None:
    async def story() -> None:
        seen, processor = SeenCallbacks(), Processor(OSError("not now"))
        calls = [asyncio.create_task(seen.process(ATTEMPT, b"x", processor, is_used)) for _ in range(10)]
        processor.may_end.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, OSError) for outcome in outcomes)
        assert await seen.process(ATTEMPT, b"x", processor, is_used)
        assert processor.count == 2

    asyncio.run(story())


def test_redelivery_is_processed_once_more_if_the_first_delivery_was_not_used() -> None:
    async def story() -> None:
        seen, processor = SeenCallbacks(), Processor()
        processor.may_end.set()
        current_fence = 1

        async def is_used(fence: int | None) -> bool:
            await asyncio.sleep(0)
            return fence == current_fence

        assert await seen.process(ATTEMPT, b"x", processor, is_used)
        assert await seen.process(ATTEMPT, b"x", processor, is_used) is False
        current_fence = 2
        redeliveries = await asyncio.gather(*(seen.process(ATTEMPT, b"x", processor, is_used) for _ in range(10)))
        assert (redeliveries.count(True), processor.count) == (1, 2)
        assert await seen.process(ATTEMPT, b"x", processor, is_used) is False

    asyncio.run(story())


def test_connection_that_ends_does_not_cancel_processing() -> None:
    async def story() -> None:
        seen, processor = SeenCallbacks(), Processor()
        first = asyncio.create_task(seen.process(ATTEMPT, b"x", processor, is_used))
        second = asyncio.create_task(seen.process(ATTEMPT, b"x", processor, is_used))
        await asyncio.sleep(0.01)
        first.cancel()
        processor.may_end.set()
        assert await second is False
        assert first.cancelled()
        assert await seen.process(ATTEMPT, b"x", processor, is_used) is False
        assert processor.count == 1

    asyncio.run(story())


def test_memory_of_callbacks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_callbacks, "MAX_ATTEMPTS", 5)
    monkeypatch.setattr(seen_callbacks, "MAX_PER_ATTEMPT", 3)

    async def story() -> None:
        seen, processor = SeenCallbacks(), Processor()
        processor.may_end.set()
        for number in range(50):
            for digest in range(10):
                assert await seen.process((f"job_{number}", 1), b"%d" % digest, processor, is_used)
        assert [name for name, _ in seen._seen] == [f"job_{number}" for number in range(45, 50)]
        assert all(list(one) == [b"7", b"8", b"9"] for one in seen._seen.values())

    asyncio.run(story())


def test_digest_covers_name_and_content_but_not_signature() -> None:
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
