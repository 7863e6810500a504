"""A long-lived task that ends is reported, shown as down, and started again; one that was stopped is not."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from gateway import supervision
from gateway.assets.shelf import ShelfFull
from gateway.events import Event, TaskRecovered, Trouble
from gateway.store.base import StoreUnavailable
from gateway.supervision import SupervisedTask, Supervisor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def failures(events: list[Any]) -> list[Trouble]:
    return [event for event in events if isinstance(event, Trouble)]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(supervision, "FIRST_BACKOFF_SECONDS", 0.01)
    return []


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  what is waited for knows of no event
            await asyncio.sleep(0.005)


ENDS: dict[str, BaseException] = {
    "a mistake": RuntimeError("the handler is closed"),
    "a foreign cancellation": asyncio.CancelledError(),
    "no room": MemoryError(),
}


@pytest.mark.parametrize("error", ENDS.values(), ids=ENDS)
async def test_task_that_ends_is_reported_and_started_again(events: list[Any], error: BaseException) -> None:
    supervisor = Supervisor(events.append)
    lives = 0

    async def work(task: SupervisedTask) -> None:
        nonlocal lives
        lives += 1
        if lives < 3:
            raise error
        task.succeeded()
        await asyncio.sleep(60)

    task = supervisor.run("store.changes", work)
    await until(lambda: supervisor.failing())
    down = supervisor.failing()["store.changes"]
    assert (down.count, type(error).__name__ in down.error) == (1, True)
    await until(lambda: lives == 3)
    assert supervisor.failing() == {}
    assert [(one.where, one.task) for one in failures(events)] == [("task", "store.changes")] * 2
    assert all(type(error).__name__ in one.what and "closed" not in one.what for one in failures(events))
    await task.stop()
    assert supervisor.names == []


async def test_time_between_restarts_grows_up_to_a_bound(events: list[Any]) -> None:
    supervisor = Supervisor(events.append)
    loop, at = asyncio.get_running_loop(), []

    async def work(task: SupervisedTask) -> None:
        at.append(loop.time())
        raise RuntimeError

    task = supervisor.run("broken", work, max_backoff=0.1)
    await until(lambda: len(at) >= 8)
    await task.stop()
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert pauses[0] >= 0.009
    assert pauses[3] >= 0.079
    assert min(pauses[4:]) >= 0.099
    ended = len(at)
    await asyncio.sleep(0.25)
    assert len(at) == ended, "what was stopped stays so"


async def test_chore_is_repeated_sooner_after_a_failure_and_is_well_after_a_success(events: list[Any]) -> None:
    supervisor = Supervisor(events.append)
    outcomes: list[Exception | None] = [None, StoreUnavailable("Redis did not answer"), ShelfFull("no room"), None]
    done: list[str] = []

    async def chore() -> None:
        outcome = outcomes[len(done)] if len(done) < len(outcomes) else None
        done.append("; ".join(supervisor.failing()))
        if outcome:
            raise outcome

    task = supervisor.run_every("engine.sweep", 0.05, chore)
    await until(lambda: len(done) >= 5)
    assert done[:5] == ["", "", "engine.sweep", "engine.sweep", ""]
    assert [(one.where, one.what) for one in failures(events)] == [
        ("store", "Redis did not answer"),
        ("storage", "no room"),
    ]
    recovered = [event for event in events if isinstance(event, TaskRecovered)]
    assert [(one.task, one.failures) for one in recovered] == [("engine.sweep", 2)]
    assert events[-1] is recovered[0]
    await task.stop()


async def test_task_that_swallows_a_cancellation_is_stopped_all_the_same(events: list[Any]) -> None:
    supervisor = Supervisor(events.append)
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


async def test_listener_that_fails_stops_no_restart(events: list[Any]) -> None:
    lives = 0

    def emit(event: Event) -> None:
        raise RuntimeError(f"cannot report {event}")

    async def work(task: SupervisedTask) -> None:
        nonlocal lives
        lives += 1
        raise RuntimeError

    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = Supervisor(emit).run("broken", work)
    await until(lambda: lives >= 3)
    await task.stop()
    assert complaints


async def test_task_that_returns_is_over(events: list[Any]) -> None:
    supervisor = Supervisor(events.append)

    async def work(task: SupervisedTask) -> None:
        await asyncio.sleep(0)

    supervisor.run("short", work)
    await until(lambda: supervisor.names == [])
    assert events == []
    assert isinstance(supervision.trouble_of(ValueError(), task="x"), Trouble)
