"""Every long-lived task and thread of a gateway is killed once: each says so, and each comes back by itself."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from httpx import ASGITransport

from gateway import app
from gateway.app import Gateway
from gateway.config.resolving import secrets_in
from gateway.config.watching import Keeper
from gateway.settings import settings_from
from gateway.store.base import StoreUnavailable
from gateway.store.sqlite.store import SqliteStore
from gateway.telemetry import logs
from providers import ADAPTERS
from tests.chaos.gateways import ENVIRON
from tests.chaos.places import Stored
from tests.store import orders
from tests.store.orders import NOON

# The library's own plans for its next version: in a process of its own a gateway hides them, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
TASKS = {
    *("engine.claim", "engine.renew", "engine.share", "engine.audit", "engine.sweep"),
    *("config.watch", "logs", "storage"),
}
OF_STORE = {"sqlite": {"store.writer", "store.reader"}, "redis": {"store.changes", "store.guard"}}


class Deadly(BaseException):
    """Nothing that anybody would have thought of."""


@pytest.fixture
def gateway(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    out = (tmp_path / "log").open("w")
    monkeypatch.setattr(app, "Logs", lambda style: logs.Logs(style, out))
    environ = {**ENVIRON, **stored.environ}
    settings = settings_from(environ, config=stored.config, data=stored.folder / "data")
    secrets = secrets_in(environ)
    yield Gateway(
        settings, lambda on_reload: Keeper(stored.config, secrets, ADAPTERS, on_reload), lambda catalogue: catalogue
    )
    out.close()


async def until(holds: Callable[[], Any], what: str, seconds: float = 15.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := holds()):  # noqa: ASYNC110  what is waited for knows of no event
            await asyncio.sleep(0.01)
    return found


def test_each_killed_task_is_reported_and_restarted(gateway: Gateway, stored: Stored, tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            gateway._life(gateway.app),
            httpx.AsyncClient(transport=ASGITransport(gateway.app), base_url="http://gateway") as http,
        ):
            names = TASKS | OF_STORE[stored.kind]
            assert names <= set(gateway.supervisor.names)
            for name in gateway.supervisor.names:
                await _kill(name)
                await until(lambda name=name: name in gateway.supervisor.failing(), f"{name} is down")
                tasks = (await http.get("/readyz")).json()["tasks"]
                assert tasks["down"][name]["error"].startswith("CancelledError")
                assert f'igw_task_up{{task="{name}"}} 0.0' in (await http.get("/metrics")).text
            # All of those that are at work every second or so; the others do not fail again.
            often = names - {"engine.audit", "engine.sweep"}
            await until(lambda: not often & gateway.supervisor.failing().keys(), "they are back")
            assert _alive() >= names
            text = (await http.get("/metrics")).text
            assert all(f'igw_task_failures_total{{task="{name}"}}' in text for name in names)
            assert (await http.get("/readyz")).json()["ready"]

    uvloop.run(story())
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    troubles = {line["task"] for line in lines if line["event"] == "trouble"}
    assert troubles >= TASKS | OF_STORE[stored.kind]


def _alive() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if not task.done()}


async def _kill(name: str) -> None:
    """Cancels a task, as an awaited component might do by mistake."""
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()
            await asyncio.wait([task])


def test_crashed_database_threads_leave_no_caller_waiting(tmp_path: Path) -> None:
    """Waiting callers get an error at once that lets them retry; soon after, everything works as before."""

    async def story() -> None:
        store = await SqliteStore(tmp_path / "jobs.db").open()
        kept = orders.acceptance(NOON)
        await store.commit(kept)
        for ask in (store._write, store._read):
            busy, go = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()
            die = partial(_die, partial(loop.call_soon_threadsafe, busy.set), go)
            asking = [asyncio.create_task(ask(die))]
            await busy.wait()
            asking += [asyncio.create_task(ask(lambda db: None)) for _ in range(50)]
            await asyncio.sleep(0)
            go.set()
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            with pytest.raises(StoreUnavailable, match="being started again"):
                await ask(lambda db: None)
            await until(lambda: store._supervisor.failing() and not _is_dead(store), "another thread serves")
            assert await store.load(kept.job.id) == kept.job
            other = orders.acceptance(NOON)
            await store.commit(other)
            assert await store.load(other.job.id) == other.job
            await until(lambda: not store._supervisor.failing(), "it is well again")
        await store.close()

    asyncio.run(story())


def _die(tell: Callable[[], object], go: threading.Event, db: object) -> None:
    tell()
    go.wait(5)
    raise Deadly


def _is_dead(store: SqliteStore) -> bool:
    held = store._held()
    return held.writer._ended.done() or held.reader._ended.done()


def test_thread_of_the_log_that_dies_writes_the_rest_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        with (tmp_path / "log").open("w") as out:
            log = logs.Logs("json", out)
            render = log._render
            monkeypatch.setattr(log, "_render", _once(Deadly(), render))
            log.say("info", "lost")
            await until(lambda: not log._thread.is_alive(), "it has died")
            log.say("info", "kept")
            with pytest.raises(Deadly):
                await log.revive()
            await log.revive()
            log.close()

    asyncio.run(story())
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events == ["kept", "log lines dropped"]


def _once(error: BaseException, then: Callable[..., Any]) -> Callable[..., Any]:
    left = [error]

    def call(*given: Any) -> Any:
        if left:
            raise left.pop()
        return then(*given)

    return call
