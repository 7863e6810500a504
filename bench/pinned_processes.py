"""Processes that run on one processor core each, and what they use."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def find_program(name: str) -> str:
    """Finds a program that `make setup` or `make bench` installed. Exits if there is none."""
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ["PATH"], "/usr/sbin"])
    if (program := shutil.which(name, path=path)) is None:
        raise SystemExit(f"{name} not found. Run deploy/setup.sh bench")
    return program


class PinnedProcess(Struct, frozen=True):
    """A running process, which may be pinned to one core."""

    pid: int

    def read_cpu_seconds(self) -> float:
        """Returns the CPU time that all threads have used, in user and in system mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def read_memory_mb(self, field: str) -> float:
        """Reads `VmRSS` (now) or `VmHWM` (peak), in MB."""
        match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(match[1]) / 1024 if match else 0.0


@contextmanager
def run_pinned(
    core: int, command: Sequence[str], output: Path, environ: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Iterator[PinnedProcess]:
    """Runs a command on one core, with its output in a file. Stops it with SIGTERM after the block."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command],
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield PinnedProcess(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def pin_process(pid: int, core: int) -> PinnedProcess:
    os.sched_setaffinity(pid, {core})
    return PinnedProcess(pid)
