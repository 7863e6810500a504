"""The tasks of one job: what is left to do when one of them ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.engine import desk as desk_module
from gateway.engine.desk import Desk
from gateway.events import Trouble
from gateway.store.base import StoreUnavailable

LETTERS_SECONDS = 5.0


def desk_of(told: list[Any]) -> Desk:
    """Of a job that nothing is asked of but its name."""
    return Desk(SimpleNamespace(emit=told.append), SimpleNamespace(id="job_1"), 1)  # type: ignore[arg-type]


async def failing() -> None:
    raise ZeroDivisionError


def test_a_task_that_ends_wakes_the_owner_at_once() -> None:
    async def scenario() -> None:
        desk = desk_of([])
        desk.start("work", lambda: asyncio.sleep(0))
        async with asyncio.timeout(LETTERS_SECONDS):
            assert await desk.mailbox.letters(60) == []

    asyncio.run(scenario())


def test_what_fails_for_no_known_reason_is_told_and_not_begun_again_as_fast_as_it_fails(monkeypatch: Any) -> None:
    monkeypatch.setattr(desk_module, "TROUBLE_PAUSE", 0.1)
    monkeypatch.setattr(desk_module, "LONGEST_TROUBLE_PAUSE", 0.4)

    async def scenario() -> None:
        told: list[Any] = []
        desk, loop = desk_of(told), asyncio.get_running_loop()
        pauses = []
        for _ in range(4):
            began = loop.time()
            assert desk.start("work", failing)
            async with asyncio.timeout(LETTERS_SECONDS):
                await desk.mailbox.letters(60)
            pauses.append(round(loop.time() - began, 1))
        assert pauses == [0.1, 0.2, 0.4, 0.4], "ever longer, to an end"
        assert [type(one) for one in told] == [Trouble] * 4
        assert "ZeroDivisionError" in told[0].what

    asyncio.run(scenario())


def test_work_that_rests_is_not_begun_by_whatever_else_wakes_the_owner(monkeypatch: Any) -> None:
    monkeypatch.setattr(desk_module, "TROUBLE_PAUSE", 0.2)

    async def scenario() -> None:
        desk = desk_of([])
        desk.start("work", failing)
        await desk.ended()
        await asyncio.sleep(0)
        assert not desk.start("work", failing)
        assert desk.start("other work", lambda: asyncio.sleep(0))
        await asyncio.sleep(0.25)
        assert desk.start("work", lambda: asyncio.sleep(0))
        await desk.ended()
        await asyncio.sleep(0)
        assert desk.start("work", failing), "it has done well since"

    asyncio.run(scenario())


def test_what_fails_for_want_of_the_store_is_begun_again_soon(monkeypatch: Any) -> None:
    monkeypatch.setattr(desk_module, "TROUBLE_PAUSE", 0.1)

    async def unavailable() -> None:
        raise StoreUnavailable("away")

    async def scenario() -> None:
        desk, loop = desk_of([]), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(4):
            assert desk.start("work", unavailable)
            await desk.mailbox.letters(60)
        assert 0.4 <= loop.time() - began < 0.8

    asyncio.run(scenario())
