"""The tasks of one job: what is left to do when one of them ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.engine import desk as desk_module
from gateway.engine.desk import Desk
from gateway.events import Trouble

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

    async def scenario() -> None:
        told: list[Any] = []
        desk, loop = desk_of(told), asyncio.get_running_loop()
        began, times = loop.time(), 5
        for _ in range(times):
            desk.start("work", failing)
            async with asyncio.timeout(LETTERS_SECONDS):
                await desk.mailbox.letters(60)
        assert loop.time() - began >= times * 0.1
        assert [type(one) for one in told] == [Trouble] * times
        assert "ZeroDivisionError" in told[0].what

    asyncio.run(scenario())
