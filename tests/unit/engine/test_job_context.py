"""The tasks of one job: wake-ups, errors and backoffs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine.job_context import JobContext
from gateway.events import ErrorReported
from gateway.store.base import StoreUnavailable
from gateway.timeouts_and_intervals import Timing, WorkerTiming
from tests.harness.virtual_time_loop import in_virtual_time, run_in_virtual_time

RECEIVE_TIMEOUT_SECONDS = 60.0


def make_job_context(events: list[Any], **timing: float) -> JobContext:
    """Makes a context for a fake job that has only an id."""
    engine_context: Any = SimpleNamespace(emit=events.append, timing=Timing(workers=WorkerTiming(**timing)))
    job: Any = SimpleNamespace(id="job_1")
    return JobContext(engine_context, job, 1)


async def raise_error() -> None:
    raise ZeroDivisionError


@in_virtual_time
async def test_finished_task_wakes_worker() -> None:
    job_context = make_job_context([])
    job_context.start_task("work", lambda: asyncio.sleep(0))
    async with asyncio.timeout(RECEIVE_TIMEOUT_SECONDS):
        assert await job_context.mailbox.receive(60) == []


@in_virtual_time
async def test_task_with_internal_error_is_reported_and_backs_off() -> None:
    events: list[Any] = []
    job_context = make_job_context(events, min_backoff_seconds=0.1, max_backoff_seconds=0.4)
    loop = asyncio.get_running_loop()
    pauses = []
    for _ in range(4):
        started = loop.time()
        assert job_context.start_task("work", raise_error)
        async with asyncio.timeout(RECEIVE_TIMEOUT_SECONDS):
            await job_context.mailbox.receive(60)
        pauses.append(loop.time() - started)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.4]), "the backoff grows up to its maximum"
    assert [type(event) for event in events] == [ErrorReported] * 4
    assert "ZeroDivisionError" in events[0].message


@in_virtual_time
async def test_task_in_backoff_is_not_started() -> None:
    job_context = make_job_context([], min_backoff_seconds=0.2)
    job_context.start_task("work", raise_error)
    await job_context.wait_for_tasks()
    await asyncio.sleep(0)
    assert not job_context.start_task("work", raise_error)
    assert job_context.start_task("other work", lambda: asyncio.sleep(0))
    await asyncio.sleep(0.25)
    assert job_context.start_task("work", lambda: asyncio.sleep(0))
    await job_context.wait_for_tasks()
    await asyncio.sleep(0)
    assert job_context.start_task("work", raise_error), "a success resets the backoff"


def test_task_that_failed_for_store_is_restarted_soon() -> None:
    async def raise_store_unavailable() -> None:
        raise StoreUnavailable("away")

    async def scenario() -> None:
        job_context, loop = make_job_context([], min_backoff_seconds=0.1), asyncio.get_running_loop()
        started = loop.time()
        for _ in range(4):
            assert job_context.start_task("work", raise_store_unavailable)
            await job_context.mailbox.receive(60)
        assert loop.time() - started == pytest.approx(0.4)

    run_in_virtual_time(scenario())
