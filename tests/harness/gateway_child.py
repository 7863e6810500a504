"""The child process of a gateway: applies the test's changes and runs the command.

python -m tests.harness.gateway_child SPEC serve ...
SPEC is a ChildSpec in JSON.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.cli import COMMAND_MODULES, load_command, main
from tests.harness.child_spec import ChildSpec

PR_SET_PDEATHSIG = 1
# Every command is imported before the fork, and what an application imports when it is built or served: that saves more
# than a second in each child.
for _name in COMMAND_MODULES:
    load_command(_name)
for _name in (
    "anyio._backends._asyncio",
    "litestar._kwargs",
    "litestar.middleware._internal.exceptions",
    "litestar.plugins.attrs",
    "litestar.plugins.pydantic",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
):
    import_module(_name)


class ChildFiles(Struct, frozen=True):
    """The working folder of a forked child, and the files for its output."""

    working_folder: Path
    stdout: Path
    stderr: Path


def run_main(spec: ChildSpec, arguments: Sequence[str], environ: Mapping[str, str], files: ChildFiles) -> None:
    """Runs the command in a forked child, with this environment."""
    _kill_with_parent()
    os.chdir(files.working_folder)
    os.environ.clear()
    os.environ.update(environ)
    for stream, path in ((1, files.stdout), (2, files.stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, stream)
        os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    _apply(spec)
    main(list(arguments), obj=spec.timing)


def _kill_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _apply(spec: ChildSpec) -> None:
    signal.signal(signal.SIGUSR1, _print_task_count)
    for hook in spec.hooks:
        module, _, function = hook.function.partition(":")
        getattr(import_module(module), function)(**hook.arguments)


def _print_task_count(*_: object) -> None:
    """Prints the number of tasks in the event loop, for leak tests."""
    print(f"tasks={len(asyncio.all_tasks())}", flush=True)


if __name__ == "__main__":
    _kill_with_parent()
    child_spec = msgspec.json.decode(sys.argv.pop(1), type=ChildSpec)
    _apply(child_spec)
    main(obj=child_spec.timing)
