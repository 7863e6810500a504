"""Startup problems are log lines in the usual format, beside the exit code."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import CONFIG

SECRET_ENVIRON = {"RUNFLOW_API_KEY": "rf_sandbox", "RUNAPI_API_KEY": "sk-sandbox", "IGW_KEY_DESIGN": "igw_design"}
SHARED_STORAGE_ENVIRON = {
    "IGW_SECRET": "a secret that is long enough",
    "IGW_ASSETS": "images",
    "IGW_ASSETS_SHARED": "yes",
}


def start_gateway(folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs `serve` until it fails."""
    defaults = {**SECRET_ENVIRON, "IGW_CONFIG": str(folder / "config"), "IGW_PORT": "0"}
    return run_command("serve", folder=folder, **{**defaults, **environ})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a valid configuration and all its keys."""
    (tmp_path / "config").symlink_to(CONFIG)
    return tmp_path


@pytest.fixture
def occupied_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def get_startup_problems(completed: "subprocess.CompletedProcess[str]") -> list[str]:
    """Returns the problems, one a line; checks that every log line is an object with the common fields."""
    assert (completed.returncode, completed.stdout) == (1, "")
    assert "Traceback" not in completed.stderr
    lines = [json.loads(line) for line in completed.stderr.splitlines()]
    assert all({"at", "level", "event"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines if line["event"] == "startup failed"} == {"error"}
    return [line["problem"] for line in lines if line["event"] == "startup failed"]


CAUSES: dict[str, tuple[dict[str, str], list[str]]] = {
    "a missing configuration": ({"IGW_CONFIG": "nowhere"}, ["Folder not found"]),
    "two invalid settings": ({"IGW_PORT": "many", "IGW_DRAIN_SECONDS": "soon"}, ["IGW_PORT", "IGW_DRAIN_SECONDS"]),
    "a secret that cannot be stored": ({"IGW_DATA": "/proc/nothing"}, ["the generated secret cannot be stored"]),
    "an unreachable store": (
        {"REDIS_URL": "redis://127.0.0.1:1/0", **SHARED_STORAGE_ENVIRON},
        ["Redis cannot be reached"],
    ),
    "an invalid image storage": ({"IGW_ASSETS": "ftp://images"}, ["is not a supported storage"]),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_startup_problem_is_one_log_line(folder: Path, cause: str) -> None:
    environ, words = CAUSES[cause]
    reported = get_startup_problems(start_gateway(folder, **environ))
    assert len(reported) == len(words)
    assert all(expected in problem for expected, problem in zip(words, reported, strict=True)), reported


def test_occupied_port_is_one_log_line(folder: Path, occupied_port: int) -> None:
    [problem] = get_startup_problems(start_gateway(folder, IGW_PORT=str(occupied_port)))
    assert f"cannot listen on 127.0.0.1:{occupied_port}" in problem


def test_console_log_reports_startup_problems_as_text(folder: Path) -> None:
    completed = start_gateway(folder, IGW_CONFIG="nowhere", IGW_LOG="console")
    assert completed.returncode == 1
    assert "startup failed" in completed.stderr
    assert "Folder not found" in completed.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(completed.stderr)
