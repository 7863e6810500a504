"""A gateway in its own process. Port and data survive restarts, so that it can be killed, paused and started again."""

import ctypes
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import msgspec

from sandbox.runapi.callbacks import CALLBACK_SECRET
from tests.harness import gateway_child
from tests.harness.child_spec import NO_CHANGES, ChildSpec
from tests.harness.gateway_child import ChildFiles
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.ports import reserve_port
from tests.harness.timings import CHAOS_TIMINGS
from tests.harness.wait import wait_for_value, wait_until

ROOT = Path(__file__).parents[2]
# The key of the sandbox's team, which `serve --sandbox` sets.
API_KEY, OTHER_TEAM_KEY = "igw_sandbox", "igw_other_team_key"
READY_TIMEOUT_SECONDS = 60.0
EXIT_TIMEOUT_SECONDS = 30.0
SECRET_ENVIRON = {
    "RUNFLOW_API_KEY": "rf_sandbox",
    "RUNAPI_API_KEY": "sk-sandbox",
    "OPENAI_API_KEY": "sk-sandbox",
    "RUNAPI_CALLBACK_SECRET": CALLBACK_SECRET,
    "IGW_KEY_CHAOS": API_KEY,
    "IGW_KEY_OTHER_TEAM": OTHER_TEAM_KEY,
}
CHAOS_CHILD = ChildSpec(CHAOS_TIMINGS)
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["pytest", "tests.harness.gateway_child", "tests.harness.crashes"])
# Loaded before the fork, because the child may not import between fork and exec.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl
StartMethod = Literal["fork", "exec"]


class ForkedProcess:
    """A forked child, with the methods of `subprocess.Popen` that tests use.

    It is forked from a process that has imported everything, which saves a second per start.
    """

    def __init__(
        self, child: ChildSpec, arguments: Sequence[str], environ: Mapping[str, str], files: ChildFiles
    ) -> None:
        parameters = (child, arguments, environ, files)
        self._process = _forkserver.Process(target=gateway_child.run_main, args=parameters, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("gateway", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends the signal, unless the process has ended: the server that forked it collects it at any moment."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


class GatewayProcess:
    """One replica. Its port, data and log stay the same over restarts.

    Without `config`, the environment names one. "exec" starts a new interpreter, which inherits the caller's network
    namespace; without changes in `child` it runs the real command.
    """

    def __init__(
        self,
        folder: Path,
        config: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        child: ChildSpec = CHAOS_CHILD,
        start_method: StartMethod = "fork",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = self.log_folder = folder
        self.working_folder = ROOT
        self.child, self.start_method = child, start_method
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {**SECRET_ENVIRON, "IGW_DRAIN_SECONDS": "30", **(environ or {})}
        self._config_arguments = ["--config", str(config)] if config else []
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._earlier_output_length = 0
        self._earlier_log_length = 0

    # --- life cycle

    @property
    def process(self) -> "subprocess.Popen[bytes] | ForkedProcess":
        assert self._process is not None, "the gateway is not running"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_if_running()

    def start(self) -> None:
        """Starts the gateway and waits until it listens."""
        self.launch()
        self.wait_until_listening()

    def launch(self) -> None:
        """Starts the gateway without waiting."""
        self._earlier_output_length = len(self.stdout)
        self._process = self._start_process()

    @property
    def is_listening(self) -> bool:
        """Whether the process has said so since its start."""
        return "listening on" in self.stdout[self._earlier_output_length :]

    def wait_until_listening(self, on_poll: Callable[[], object] = lambda: None) -> None:
        def poll() -> None:
            self.check_alive()
            on_poll()

        wait_for_value(
            lambda: self.stdout[self._earlier_output_length :],
            lambda output: "listening on" in output,
            "the gateway listens",
            poll,
            READY_TIMEOUT_SECONDS,
        )

    def make_arguments(self) -> list[str]:
        ports = ["--port", str(self.port)]
        return ["serve", *self._config_arguments, *ports, "--data", str(self.folder / "data")]

    def _start_process(self) -> "subprocess.Popen[bytes] | ForkedProcess":
        arguments, environ = self.make_arguments(), self.make_environ()
        if self.start_method == "fork":
            files = ChildFiles(self.working_folder, self._stdout_path, self._stderr_path)
            return ForkedProcess(self.child, arguments, environ, files)
        with self._stdout_path.open("ab") as out, self._stderr_path.open("ab") as err:
            return subprocess.Popen(
                [*self.make_program(), *arguments],
                cwd=self.working_folder,
                stdout=out,
                stderr=err,
                env=environ,
                preexec_fn=self.prepare_process,
            )

    def make_program(self) -> list[str]:
        """Returns the command that "exec" starts, without arguments."""
        if self.child == NO_CHANGES:
            return [sys.executable, "-m", "gateway.cli"]
        return [sys.executable, "-m", "tests.harness.gateway_child", msgspec.json.encode(self.child).decode()]

    def make_environ(self) -> dict[str, str]:
        return get_clean_environ() | self.environ

    def prepare_process(self) -> None:
        """Runs in the child between fork and exec."""
        _PRCTL(gateway_child.PR_SET_PDEATHSIG, signal.SIGKILL)

    def check_alive(self) -> None:
        assert self.process.poll() is None, f"the gateway has exited:\n{self.read_log()[-4_000:]}"

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_exit(self, timeout_seconds: float = EXIT_TIMEOUT_SECONDS) -> int:
        """Waits for the exit and returns the exit code."""
        try:
            exit_code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the gateway does not exit:\n{self.read_log()[-4_000:]}") from None
        self._process = None
        return exit_code

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def has_exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait_for_exit()

    def stop(self) -> None:
        self.send_signal(signal.SIGTERM)
        assert self.wait_for_exit() == 0, self.read_log()[-4_000:]

    def stop_immediately(self) -> None:
        """Stops with two signals, without waiting for jobs."""
        self.send_signal(signal.SIGTERM)
        wait_until(lambda: self.get("/readyz").status_code == 503, "/readyz reports draining")
        self.send_signal(signal.SIGTERM)
        self.wait_for_exit()

    def kill_if_running(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.wait_for_exit()

    # --- output

    @property
    def _stdout_path(self) -> Path:
        return self.log_folder / "stdout"

    @property
    def _stderr_path(self) -> Path:
        return self.log_folder / "stderr"

    @property
    def stdout(self) -> str:
        return self._stdout_path.read_text() if self._stdout_path.exists() else ""

    @property
    def stderr(self) -> str:
        return self._stderr_path.read_text() if self._stderr_path.exists() else ""

    def read_log(self) -> str:
        """Returns everything written so far, by all processes of this replica."""
        return self.stdout + self.stderr

    def read_log_lines(self) -> list[dict[str, Any]]:
        """Returns the parsed log, without a line that is still being written."""
        return _parse_log(self.stderr)

    def read_problem_lines(self) -> list[dict[str, Any]]:
        """Returns the warnings and errors of this test."""
        lines = _parse_log(self.stderr[self._earlier_log_length :])
        return [line for line in lines if line["level"] not in ("info", "debug")]

    def expect_no_problem(self) -> None:
        """This test has caused no warning and no error. Warnings of libraries do not count, nor do lines that stand for
        several: they were held back for a minute, and may be those of earlier tests."""
        lines = self.read_problem_lines()
        assert [line for line in lines if line["event"] != "library" and "repeated" not in line] == []

    def forget_earlier_problems(self) -> None:
        """Hides problems of earlier tests, which shared this gateway, from `read_problem_lines`."""
        self._earlier_log_length = len(self.stderr.rpartition("\n")[0])

    # --- requests and metrics

    def make_client(self, timeout_seconds: float = 60.0, api_key: str = API_KEY) -> httpx.Client:
        headers = {"authorization": f"Bearer {api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds, trust_env=False)

    def get(self, path: str, timeout_seconds: float = 60.0) -> httpx.Response:
        with self.make_client(timeout_seconds) as client:
            return client.get(path)

    def read_metric(self, name: str, **labels: str) -> float:
        """Returns the sum of the metric's samples with these labels. Fails if the gateway has no such metric."""
        text = self.get("/metrics").text
        assert f"# HELP {name} " in text or f"# HELP {name.rpartition('_')[0]} " in text, f"no metric {name}"
        wanted_labels = [f'{label}="{value}"' for label, value in labels.items()]
        samples = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(
            float(value)
            for label_text, value in samples
            if all(wanted_label in label_text for wanted_label in wanted_labels)
        )

    def is_idle(self) -> bool:
        return self.read_metric("igw_jobs_in_flight") == 0

    def stays_idle(self, seconds: float) -> bool:
        """Whether no job is in flight for `seconds`, in which jobs of other replicas would be reclaimed."""
        deadline = time.monotonic() + seconds
        while self.is_idle():
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.1)
        return False

    def wait_until_idle(self) -> None:
        """Waits until no job is in flight: every job is settled, and all its charges are booked."""
        wait_for_value(lambda: self.get("/readyz").json()["jobs"], lambda jobs: jobs == 0, "no job is in flight")

    # --- the process

    def count_resources(self) -> dict[str, int]:
        """Counts the process's open files and sockets, threads, and event loop tasks."""
        process = Path(f"/proc/{self.pid}")
        counts = {name: len(list((process / kind).iterdir())) for name, kind in (("files", "fd"), ("threads", "task"))}
        return {**counts, "tasks": self._count_tasks()}

    def _count_tasks(self) -> int:
        output_length = len(self.stdout)
        self.send_signal(signal.SIGUSR1)
        match = wait_until(
            lambda: re.search(r"tasks=(\d+)", self.stdout[output_length:]), "the child prints its task count"
        )
        assert match is not None
        return int(match[1])

    def read_memory_mb(self, field: str = "VmRSS") -> float:
        """Reads `VmRSS` or `VmHWM` of the process, in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"{field}:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024


def _parse_log(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines() if line]


@contextmanager
def run_replica(
    folder: Path, config: Path, environ: Mapping[str, str] | None = None, child: ChildSpec = CHAOS_CHILD
) -> Iterator[GatewayProcess]:
    """Starts a gateway with this configuration, and kills it after the block."""
    with GatewayProcess(folder, config, environ, child=child) as process:
        process.start()
        yield process
