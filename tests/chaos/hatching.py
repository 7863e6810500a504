"""What a gateway's process does before it is one: the forked child of a process that has imported everything already.

The program is the real one, and so is the process; only the second that Python takes to import it is paid once.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from gateway.cli import main
from gateway.jobs import recovery

# An order that never reached its seller is looked for so long; in production two minutes.
RECONCILE_SECONDS = 4.0
PR_SET_PDEATHSIG = 1


def serve(arguments: Sequence[str], environ: Mapping[str, str], log: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(environ)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(written, stream)
    os.close(written)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    signal.signal(signal.SIGUSR1, _tell_tasks)
    recovery.RECONCILE_SECONDS = RECONCILE_SECONDS
    main(["serve", *arguments])


def _tell_tasks(*_: object) -> None:
    """How much is going on in the event loop, for those outside who look for leaks."""
    print(f"tasks={len(asyncio.all_tasks())}", flush=True)
