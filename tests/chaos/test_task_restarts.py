"""Every long-lived task and thread is killed once: each failure is reported and each task restarts."""

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

from gateway import gateway_lifecycle
from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.reloader import ConfigReloader
from gateway.gateway_lifecycle import Gateway
from gateway.settings import load_settings
from gateway.store.base import StoreUnavailable
from gateway.store.sqlite.store import SqliteStore
from gateway.telemetry import logs
from providers import ADAPTERS
from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import SECRET_ENVIRON
from tests.harness.wait import wait_until_async
from tests.store import job_factory
from tests.store.job_factory import NOON

# Litestar announces changes of its next version. A gateway process ignores these warnings, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
COMMON_TASKS = {
    *(
        "engine.claim_jobs",
        "engine.renew_leases",
        "engine.publish_health",
        "engine.audit_store",
        "engine.delete_expired",
    ),
    *("config.watch", "logs", "storage"),
}
STORE_TASKS = {"sqlite": {"store.writer", "store.reader"}, "redis": {"store.change_listener", "store.server_monitor"}}


class UnexpectedCrash(BaseException):
    """An exception that no component expects."""


@pytest.fixture
def gateway(store_setup: StoreSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    out = (tmp_path / "log").open("w")
    monkeypatch.setattr(
        gateway_lifecycle, "EventLogger", lambda style, **options: logs.EventLogger(style, out, **options)
    )
    environ = {**SECRET_ENVIRON, **store_setup.environ}
    settings = load_settings(environ, config=store_setup.config, data=store_setup.folder / "data")
    secrets = secrets_from_env(environ)
    yield Gateway(
        settings,
        lambda on_reload: ConfigReloader(store_setup.config, secrets, ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
    )
    out.close()


def test_each_killed_task_is_reported_and_restarted(gateway: Gateway, store_setup: StoreSetup, tmp_path: Path) -> None:
    async def kill_each_task() -> None:
        async with (
            gateway._lifespan(gateway.app),
            httpx.AsyncClient(transport=ASGITransport(gateway.app), base_url="http://gateway") as http,
        ):
            names = COMMON_TASKS | STORE_TASKS[store_setup.kind]
            assert names <= set(gateway.supervisor.task_names)
            for name in gateway.supervisor.task_names:
                await _cancel_task(name)
                await wait_until_async(
                    lambda name=name: name in gateway.supervisor.get_failures(), f"{name} is reported as failed"
                )
                tasks = (await http.get("/readyz")).json()["tasks"]
                assert tasks["down"][name]["error"].startswith("CancelledError")
                assert f'igw_task_up{{task="{name}"}} 0.0' in (await http.get("/metrics")).text
            # Tasks that run every second or so have recovered; the others run rarely.
            frequent_tasks = names - {"engine.audit_store", "engine.delete_expired"}
            await wait_until_async(
                lambda: not frequent_tasks & gateway.supervisor.get_failures().keys(),
                "the frequent tasks have recovered",
            )
            assert _list_running_tasks() >= names
            text = (await http.get("/metrics")).text
            assert all(f'igw_task_failures_total{{task="{name}"}}' in text for name in names)
            assert (await http.get("/readyz")).json()["ready"]

    uvloop.run(kill_each_task())
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    reported_tasks = {line["task"] for line in lines if line["event"] == "error reported"}
    assert reported_tasks >= COMMON_TASKS | STORE_TASKS[store_setup.kind]


def _list_running_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if not task.done()}


async def _cancel_task(name: str) -> None:
    """Cancels a task, as an awaited component might do by mistake."""
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()
            await asyncio.wait([task])


def test_crashed_database_threads_fail_waiting_callers_and_restart(tmp_path: Path) -> None:
    """Waiting callers get an error at once that lets them retry; soon after, everything works as before."""

    async def crash_each_thread() -> None:
        store = await SqliteStore(tmp_path / "jobs.db").open()
        saved_commit = job_factory.make_create_commit(NOON)
        await store.commit(saved_commit)
        for run_query in (store._run_write, store._run_read):
            started, released = asyncio.Event(), threading.Event()
            loop = asyncio.get_running_loop()
            crash = partial(_crash_thread, partial(loop.call_soon_threadsafe, started.set), released)
            tasks = [asyncio.create_task(run_query(crash))]
            await started.wait()
            tasks += [asyncio.create_task(run_query(lambda db: None)) for _ in range(50)]
            await asyncio.sleep(0)
            released.set()
            async with asyncio.timeout(60):
                answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            with pytest.raises(StoreUnavailable, match="is being restarted"):
                await run_query(lambda db: None)
            await wait_until_async(
                lambda: store._supervisor.get_failures() and not has_dead_thread(store), "a new thread runs"
            )
            assert await store.load_job(saved_commit.job.id) == saved_commit.job
            later_commit = job_factory.make_create_commit(NOON)
            await store.commit(later_commit)
            assert await store.load_job(later_commit.job.id) == later_commit.job
            await wait_until_async(lambda: not store._supervisor.get_failures(), "the store reports no failures")
        await store.close()

    asyncio.run(crash_each_thread())


def _crash_thread(notify: Callable[[], object], released: threading.Event, db: object) -> None:
    notify()
    released.wait(60)
    raise UnexpectedCrash


def has_dead_thread(store: SqliteStore) -> bool:
    handles = store._require_handles()
    return handles.writer._thread_end.done() or handles.reader._thread_end.done()


def test_restarted_log_thread_writes_the_remaining_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash_log_thread() -> None:
        with (tmp_path / "log").open("w") as out:
            log = logs.EventLogger("json", out)
            render = log._render
            monkeypatch.setattr(log, "_render", _raise_once(UnexpectedCrash(), render))
            log.log("info", "lost")
            await wait_until_async(lambda: not log._thread.is_alive(), "the log thread has ended")
            log.log("info", "kept")
            with pytest.raises(UnexpectedCrash):
                await log.restart_thread()
            await log.restart_thread()
            log.close()

    asyncio.run(crash_log_thread())
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events == ["kept", "log lines dropped"]


def _raise_once(error: BaseException, next_call: Callable[..., Any]) -> Callable[..., Any]:
    errors = [error]

    def call(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return next_call(*arguments)

    return call
