"""What keeps a gateway from starting is said in its log, in the form of all other lines, beside the exit code."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import CONFIG, ROOT

SECRETS = {"RUNFLOW_API_KEY": "rf_sandbox", "RUNAPI_API_KEY": "sk-sandbox", "IGW_KEY_DESIGN": "igw_design"}
SHARED = {"IGW_SECRET": "a secret that is long enough", "IGW_ASSETS": "images", "IGW_ASSETS_SHARED": "yes"}


def start(folder: Path, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IGW_", "REDIS_"))}
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "serve"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "IGW_CONFIG": str(folder / "config"), "IGW_PORT": "0", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a configuration that is right, and whose keys are all there."""
    (tmp_path / "config").symlink_to(CONFIG)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield int(one.getsockname()[1])


def problems(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """One in a line, and every line of the log an object with the fields of all others."""
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"at", "level", "event"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines if line["event"] == "start failed"} == {"error"}
    return [line["problem"] for line in lines if line["event"] == "start failed"]


CAUSES: dict[str, tuple[dict[str, str], list[str]]] = {
    "a configuration that is not there": ({"IGW_CONFIG": "nowhere"}, ["no such folder"]),
    "settings, each in a line": ({"IGW_PORT": "many", "IGW_DRAIN_SECONDS": "soon"}, ["IGW_PORT", "IGW_DRAIN_SECONDS"]),
    "a secret that cannot be kept": ({"IGW_DATA": "/proc/nothing"}, ["no secret can be kept there"]),
    "a store that does not answer": ({"REDIS_URL": "redis://127.0.0.1:1/0", **SHARED}, ["Redis does not answer"]),
    "a place for images that is none": ({"IGW_ASSETS": "ftp://images"}, ["is no object store"]),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_keeps_it_from_starting_is_a_line(folder: Path, cause: str) -> None:
    environ, words = CAUSES[cause]
    found = problems(start(folder, {**SECRETS, **environ}))
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True)), found


def test_an_address_that_is_taken_is_a_line(folder: Path, taken: int) -> None:
    [problem] = problems(start(folder, {**SECRETS, "IGW_PORT": str(taken)}))
    assert f"127.0.0.1:{taken} cannot be listened on" in problem


def test_people_read_words(folder: Path) -> None:
    done = start(folder, {**SECRETS, "IGW_CONFIG": "nowhere", "IGW_LOG": "console"})
    assert done.returncode == 1
    assert "start failed" in done.stderr
    assert "no such folder" in done.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.stderr)
