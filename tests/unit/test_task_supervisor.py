"""A supervised task that ends is reported, shown as down, and restarted; a stopped one is not."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from gateway import task_supervisor
from gateway.assets.storage import StorageFull
from gateway.events import ErrorReported, Event, EventSink, TaskRecovered
from gateway.store.base import StoreUnavailable
from gateway.task_supervisor import SupervisedTask, TaskSupervisor
from gateway.timeouts_and_intervals import TaskTiming
from tests.harness.virtual_time_loop import VirtualTimeLoop
from tests.harness.wait import wait_until_async

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def list_failures(events: list[Any]) -> list[ErrorReported]:
    return [event for event in events if isinstance(event, ErrorReported)]


@pytest.fixture
def events() -> list[Any]:
    return []


def make_supervisor(emit: EventSink) -> TaskSupervisor:
    return TaskSupervisor(emit, timing=TaskTiming(min_backoff_seconds=0.01))


TASK_ERRORS: dict[str, BaseException] = {
    "a mistake": RuntimeError("the handler is closed"),
    "a foreign cancellation": asyncio.CancelledError(),
    "no room": MemoryError(),
}


@pytest.mark.parametrize("error", TASK_ERRORS.values(), ids=TASK_ERRORS)
async def test_ended_task_is_reported_and_restarted(events: list[Any], error: BaseException) -> None:
    supervisor = make_supervisor(events.append)
    runs = 0

    async def work(task: SupervisedTask) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise error
        task.record_success()
        await asyncio.sleep(60)

    task = supervisor.run("store.change_listener", work)
    await wait_until_async(lambda: supervisor.get_failures(), "the task fails")
    failure = supervisor.get_failures()["store.change_listener"]
    assert (failure.count, type(error).__name__ in failure.error) == (1, True)
    await wait_until_async(lambda: runs == 3, "it runs for the third time")
    assert supervisor.get_failures() == {}
    assert [(event.component, event.task) for event in list_failures(events)] == [("task", "store.change_listener")] * 2
    assert all(
        type(error).__name__ in event.message and "closed" not in event.message for event in list_failures(events)
    )
    await task.stop()
    assert supervisor.task_names == []


async def test_restart_backoff_grows_up_to_maximum(events: list[Any]) -> None:
    supervisor = make_supervisor(events.append)
    loop, started_at = asyncio.get_running_loop(), []

    async def work(task: SupervisedTask) -> None:
        started_at.append(loop.time())
        raise RuntimeError

    task = supervisor.run("broken", work, max_backoff=0.1)
    await wait_until_async(lambda: len(started_at) >= 8, "it was restarted seven times")
    await task.stop()
    pauses = [later - earlier for earlier, later in pairwise(started_at)]
    assert pauses == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.1])
    ended = len(started_at)
    await asyncio.sleep(0.25)
    assert len(started_at) == ended, "a stopped task is not restarted"


async def test_periodic_task_backs_off_on_failure_and_recovers(events: list[Any]) -> None:
    supervisor = make_supervisor(events.append)
    outcomes: list[Exception | None] = [None, StoreUnavailable("Redis did not answer"), StorageFull("no room"), None]
    failing_names: list[str] = []

    async def run_chore() -> None:
        outcome = outcomes[len(failing_names)] if len(failing_names) < len(outcomes) else None
        failing_names.append("; ".join(supervisor.get_failures()))
        if outcome:
            raise outcome

    task = supervisor.run_every("engine.delete_expired", 0.05, run_chore)
    await wait_until_async(lambda: len(failing_names) >= 5, "it ran five times")
    assert failing_names[:5] == ["", "", "engine.delete_expired", "engine.delete_expired", ""]
    assert [(entry.component, entry.message) for entry in list_failures(events)] == [
        ("store", "Redis did not answer"),
        ("storage", "no room"),
    ]
    recovered = [event for event in events if isinstance(event, TaskRecovered)]
    assert [(entry.task, entry.failures) for entry in recovered] == [("engine.delete_expired", 2)]
    assert events[-1] is recovered[0]
    await task.stop()


async def test_task_that_swallows_cancellation_is_still_stopped(events: list[Any]) -> None:
    supervisor = make_supervisor(events.append)
    swallowed = 0

    async def work(task: SupervisedTask) -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    task = supervisor.run("stubborn", work)
    await asyncio.sleep(0)
    await task.stop()
    await task.stop()
    assert (swallowed, events) == (2, [])


async def test_failing_event_sink_does_not_stop_restarts(events: list[Any]) -> None:
    runs = 0

    def emit(event: Event) -> None:
        raise RuntimeError(f"cannot report {event}")

    async def work(task: SupervisedTask) -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = make_supervisor(emit).run("broken", work)
    await wait_until_async(lambda: runs >= 3, "it was restarted twice")
    await task.stop()
    assert complaints


async def test_returning_task_is_finished(events: list[Any]) -> None:
    supervisor = make_supervisor(events.append)

    async def work(task: SupervisedTask) -> None:
        await asyncio.sleep(0)

    supervisor.run("short", work)
    await wait_until_async(lambda: supervisor.task_names == [], "the task has ended")
    assert events == []
    assert isinstance(task_supervisor.make_error_event(ValueError(), task="x"), ErrorReported)
