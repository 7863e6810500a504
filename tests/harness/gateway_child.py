"""The child process of a gateway: applies test overrides, redirects output and runs the command.

It is forked from a process that has imported everything, which saves a second per start.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.cli import main
from gateway.engine import engine, job_creation
from gateway.engine.order_submitter import OrderSubmitter
from gateway.engine.order_tracker import OrderTracker
from gateway.jobs import job, next_actions
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.harness.name_server import RESOLVER_FILE_ENV, use_resolver_file

# The search time for an order without a response; two minutes in production.
RECONCILE_TIMEOUT_SECONDS = 4.0
PR_SET_PDEATHSIG = 1
# Jobs of this team kill their worker at the crash point that a test sets.
CRASHING_TEAM = "other-team"
CRASH_POINTS: dict[str, list[tuple[type, str]]] = {
    "submit": [(OrderSubmitter, "_submit_to_entry")],
    "poll": [(OrderTracker, "_poll_order")],
    "commit": [(SqliteStore, "commit"), (RedisStore, "commit")],
}
# Crash point and seconds of work on such a job before the crash.
DELAYED_CRASH_POINTS = {"delayed submit": ("submit", 3.0)}
# Inputs without a job are deleted after this time; an hour in production.
UNCLAIMED_INPUT_TTL_SECONDS = 2.0


def serve_gateway(arguments: Sequence[str], environ: Mapping[str, str], log_path: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(environ)
    if path := environ.get(RESOLVER_FILE_ENV):
        use_resolver_file(path)
    log_descriptor = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log_descriptor, stream)
    os.close(log_descriptor)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    signal.signal(signal.SIGUSR1, _print_task_count)
    next_actions.RECONCILE_TIMEOUT_SECONDS = RECONCILE_TIMEOUT_SECONDS
    job.CONFIRMATION_TIMEOUT_SECONDS = float(os.environ.pop("CHAOS_CONFIRM_SECONDS", job.CONFIRMATION_TIMEOUT_SECONDS))
    engine.CLEANUP_INTERVAL_SECONDS, job_creation.UNCLAIMED_INPUT_TTL_SECONDS = 1.0, UNCLAIMED_INPUT_TTL_SECONDS
    if crash_setting := environ.get("CHAOS_POISON"):
        crash_point, seconds = DELAYED_CRASH_POINTS.get(crash_setting, (crash_setting, 0.0))
        for kind, method in CRASH_POINTS[crash_point]:
            _install_crash(kind, method, seconds)
    main(["serve", *arguments])


def _install_crash(component: type, method: str, seconds: float) -> None:
    """Makes `method` kill this process after `seconds` when it is called for a job of CRASHING_TEAM."""
    original = getattr(component, method)

    async def crash_or_call(self: Any, *arguments: Any) -> Any:
        if _get_team(self, *arguments) == CRASHING_TEAM:
            await asyncio.sleep(seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, *arguments)

    setattr(component, method, crash_or_call)


def _get_team(worker: Any, *arguments: Any) -> str | None:
    """Returns the team of the worker's job, or of a new job in a commit."""
    if isinstance(worker, OrderSubmitter | OrderTracker):
        return worker._job_context.job.team
    commit = arguments[0]
    return commit.job.team if commit.expected_version == 0 else None


def _print_task_count(*_: object) -> None:
    """Prints the number of tasks in the event loop, for leak tests."""
    print(f"tasks={len(asyncio.all_tasks())}", flush=True)
