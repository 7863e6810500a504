"""Crash points: a gateway kills itself at a chosen step of a job of one team."""

import asyncio
import os
import signal
from typing import Any

from gateway.engine.order_submitter import OrderSubmitter
from gateway.engine.order_tracker import OrderTracker
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.harness.child_spec import Hook

# Jobs of this team crash their worker.
CRASHING_TEAM = "other-team"
CRASH_POINTS: dict[str, list[tuple[type, str]]] = {
    "submit": [(OrderSubmitter, "_submit_to_entry")],
    "poll": [(OrderTracker, "_poll_order")],
    "commit": [(SqliteStore, "commit"), (RedisStore, "commit")],
}


def make_crash_hook(point: str, delay_seconds: float = 0.0) -> Hook:
    return Hook("tests.harness.crashes:install_crash", {"point": point, "delay_seconds": delay_seconds})


def install_crash(point: str, delay_seconds: float) -> None:
    for component, method in CRASH_POINTS[point]:
        _install_crash(component, method, delay_seconds)


def _install_crash(component: type, method: str, delay_seconds: float) -> None:
    """Makes the method kill this process after the delay when it is called for a job of CRASHING_TEAM."""
    original = getattr(component, method)

    async def crash_or_call(self: Any, *arguments: Any) -> Any:
        if _get_team(self, *arguments) == CRASHING_TEAM:
            await asyncio.sleep(delay_seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, *arguments)

    setattr(component, method, crash_or_call)


def _get_team(component: Any, *arguments: Any) -> str | None:
    """Returns the team of the worker's job, or of a new job in a commit."""
    if isinstance(component, OrderSubmitter | OrderTracker):
        return component._job_context.job.team
    commit = arguments[0]
    return commit.job.team if commit.expected_version == 0 else None
