"""A callback is processed once, unless that failed; redeliveries that arrive meanwhile share its outcome."""

import asyncio

import pytest

from gateway.engine import seen_callbacks
from gateway.engine.seen_callbacks import SeenCallbacks, compute_digest
from providers import ADAPTERS
from tests.harness.virtual_time_loop import in_virtual_time, run_in_virtual_time

ATTEMPT_KEY = ("job_1", 1)


async def is_used(fence: int | None) -> bool:
    return True


class FakeProcessor:
    def __init__(self, *failures: Exception) -> None:
        self.count, self.may_finish, self._failures = 0, asyncio.Event(), list(failures)

    async def __call__(self) -> int:
        self.count += 1
        await self.may_finish.wait()
        if self._failures:
            raise self._failures.pop()
        return self.count


@in_virtual_time
async def test_concurrent_redeliveries_share_outcome_of_one_callback() -> None:
    seen, processor = SeenCallbacks(), FakeProcessor()
    calls = [asyncio.create_task(seen.process_once(ATTEMPT_KEY, b"x", processor, is_used)) for _ in range(100)]
    await asyncio.sleep(0.01)
    assert not any(call.done() for call in calls)
    processor.may_finish.set()
    assert sorted(await asyncio.gather(*calls)) == [False] * 99 + [True]
    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used) is False
    assert processor.count == 1
    assert await seen.process_once(ATTEMPT_KEY, b"y", processor, is_used)
    assert await seen.process_once(("job_1", 2), b"x", processor, is_used)


@in_virtual_time
async def test_failed_callback_is_processed_on_redelivery() -> None:
    seen, processor = SeenCallbacks(), FakeProcessor(OSError("not now"))
    calls = [asyncio.create_task(seen.process_once(ATTEMPT_KEY, b"x", processor, is_used)) for _ in range(10)]
    processor.may_finish.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, OSError) for outcome in outcomes)
    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used)
    assert processor.count == 2


@in_virtual_time
async def test_unused_callback_is_processed_once_more_on_redelivery() -> None:
    seen, processor = SeenCallbacks(), FakeProcessor()
    processor.may_finish.set()
    current_fence = 1

    async def is_used(fence: int | None) -> bool:
        await asyncio.sleep(0)
        return fence == current_fence

    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used)
    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used) is False
    current_fence = 2
    redeliveries = await asyncio.gather(*(seen.process_once(ATTEMPT_KEY, b"x", processor, is_used) for _ in range(10)))
    assert (redeliveries.count(True), processor.count) == (1, 2)
    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used) is False


@in_virtual_time
async def test_disconnected_sender_does_not_cancel_processing() -> None:
    seen, processor = SeenCallbacks(), FakeProcessor()
    first = asyncio.create_task(seen.process_once(ATTEMPT_KEY, b"x", processor, is_used))
    second = asyncio.create_task(seen.process_once(ATTEMPT_KEY, b"x", processor, is_used))
    await asyncio.sleep(0.01)
    first.cancel()
    processor.may_finish.set()
    assert await second is False
    assert first.cancelled()
    assert await seen.process_once(ATTEMPT_KEY, b"x", processor, is_used) is False
    assert processor.count == 1


def test_memory_of_callbacks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_callbacks, "MAX_ATTEMPTS", 5)
    monkeypatch.setattr(seen_callbacks, "MAX_DIGESTS_PER_ATTEMPT", 3)

    async def scenario() -> None:
        seen, processor = SeenCallbacks(), FakeProcessor()
        processor.may_finish.set()
        for number in range(50):
            for digest in range(10):
                assert await seen.process_once((f"job_{number}", 1), b"%d" % digest, processor, is_used)
        assert [name for name, _ in seen._seen] == [f"job_{number}" for number in range(45, 50)]
        assert all(list(digests) == [b"7", b"8", b"9"] for digests in seen._seen.values())

    run_in_virtual_time(scenario())


def test_digest_covers_id_and_body_but_not_signature() -> None:
    runapi, runflow = ADAPTERS["runapi"].callback, ADAPTERS["runflow_runs"].callback
    assert runapi is not None
    assert runflow is not None
    headers = {"x-callback-id": "a", "x-callback-timestamp": "1", "x-callback-signature": "s"}
    first = compute_digest(runapi, headers, b"body")
    assert (
        compute_digest(runapi, headers | {"x-callback-timestamp": "2", "x-callback-signature": "t"}, b"body") == first
    )
    assert compute_digest(runapi, headers | {"x-callback-id": "b"}, b"body") != first
    assert compute_digest(runapi, headers, b"other") != first
    assert compute_digest(runapi, {"x-callback-id": "half \udc00"}, b"") != compute_digest(runapi, {}, b"")
    assert compute_digest(runflow, {"runflow-signature": "s"}, b"body") == compute_digest(runflow, {}, b"body")
