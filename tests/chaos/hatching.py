"""What a gateway's process does before it is one: the forked child of a process that has imported everything already.

The program is the real one, and so is the process; only the second that Python takes to import it is paid once.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.cli import main
from gateway.engine import accepting, engine
from gateway.engine.buying import Buyer
from gateway.engine.following import Follower
from gateway.jobs import job, recovery
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.flow.names import RESOLVER_FILE, use_resolver_file

# An order that never reached its seller is looked for so long; in production two minutes.
RECONCILE_SECONDS = 4.0
PR_SET_PDEATHSIG = 1
# Whose jobs kill their workers where a test wants them to.
POISONED_TEAM = "strangers"
DEADLY: dict[str, list[tuple[type, str]]] = {
    "buying": [(Buyer, "_buy_at")],
    "asking": [(Follower, "_ask")],
    "accepting": [(SqliteStore, "commit"), (RedisStore, "commit")],
}
# The seconds of work on such a job before the crash.
DELAYED = {"buying later": ("buying", 3.0)}
# Inputs without a job; in production an hour.
UNACCEPTED_SECONDS = 2.0


def serve(arguments: Sequence[str], environ: Mapping[str, str], log: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(environ)
    if path := environ.get(RESOLVER_FILE):
        use_resolver_file(path)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    signal.signal(signal.SIGUSR1, _tell_tasks)
    recovery.RECONCILE_SECONDS = RECONCILE_SECONDS
    job.CONFIRM_SECONDS = float(os.environ.pop("CHAOS_CONFIRM_SECONDS", job.CONFIRM_SECONDS))
    engine.SWEEP_SECONDS, accepting.UNACCEPTED_SECONDS = 1.0, UNACCEPTED_SECONDS
    if poison := environ.get("CHAOS_POISON"):
        what, seconds = DELAYED.get(poison, (poison, 0.0))
        for kind, method in DEADLY[what]:
            _make_deadly(kind, method, seconds)
    main(["serve", *arguments])


def _make_deadly(kind: type, method: str, seconds: float) -> None:
    """This process is killed so long after it begins to do that for the job of a team that may name no policy."""
    harmless = getattr(kind, method)

    async def deadly(self: Any, *arguments: Any) -> Any:
        if _team_of(self, *arguments) == POISONED_TEAM:
            await asyncio.sleep(seconds)
            os.kill(os.getpid(), signal.SIGKILL)
        return await harmless(self, *arguments)

    setattr(kind, method, deadly)


def _team_of(worker: Any, *arguments: Any) -> str | None:
    """Of a job that is worked on, or is about to be accepted."""
    if isinstance(worker, Buyer | Follower):
        return worker._desk.job.team
    commit = arguments[0]
    return commit.job.team if commit.expected == 0 else None


def _tell_tasks(*_: object) -> None:
    """How much is going on in the event loop, for those outside who look for leaks."""
    print(f"tasks={len(asyncio.all_tasks())}", flush=True)
