"""The sandbox as a process: which ports it takes, when it ends."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from sandbox.server import DEFAULT_PORT
from tests import vendors

KEY = {"authorization": "Bearer sk-sandbox"}
COMMAND = [sys.executable, "-m", "gateway.cli", "sandbox"]
READY = re.compile(r"sandbox listening on (http://\S+)")


@contextlib.contextmanager
def started(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """A sandbox that a test may end by itself. SIGINT ends it however the tests were started: a shell has programs
    behind `&` ignore it."""
    with subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := READY.search(line):
            return found[1]
    raise AssertionError("the sandbox did not start")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_/charges", trust_env=False, timeout=2).is_success
    except httpx.TransportError:
        return False


# Ports


def test_sandboxes_started_at_once_without_a_port_take_different_pairs():
    with started() as one, started() as two, started() as three:
        ports = [port_of(url_of(process)) for process in (one, two, three)]
        taken = {port + half for port in ports for half in (0, 1)}
        assert len(taken) == 6
        assert all(port >= DEFAULT_PORT and (port - DEFAULT_PORT) % 2 == 0 for port in ports)
        assert all(answers(f"http://127.0.0.1:{port}") for port in ports)


def test_a_pair_of_which_half_is_busy_is_passed_over():
    with socket.socket() as busy:
        # Where it is taken already, by whatever else runs on this machine, that serves as well.
        with contextlib.suppress(OSError):
            busy.bind(("127.0.0.1", DEFAULT_PORT + 1))
            busy.listen()
        with started() as process:
            assert port_of(url_of(process)) > DEFAULT_PORT + 1


@pytest.mark.parametrize("half", [0, 1])
def test_a_taken_port_that_was_asked_for_is_an_error_that_says_so(half):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] - half
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "in use" in done.stderr.lower()
    assert str(port) in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_not_ours_is_not_called_a_busy_port():
    done = subprocess.run(
        [*COMMAND, "--host", "192.0.2.1", "--port", "18090"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "in use" not in done.stderr
    assert "192.0.2.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_zero_takes_any_two():
    with vendors.running() as sandbox:
        assert answers(sandbox.url)
        assert port_of(sandbox.url) > 1023


# The end


def wait_for_an_answer(url: str) -> None:
    order = {"model": "gpt-image-2", "prompt": "a lighthouse"}
    with contextlib.suppress(httpx.TransportError):
        httpx.post(f"{url}/openai/v1/images/generations", json=order, headers=KEY, timeout=30, trust_env=False)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sandbox_at_once_and_quietly_whatever_hangs(sign):
    with started("--port", "0") as process:
        url = url_of(process)
        clients = [threading.Thread(target=wait_for_an_answer, args=[url], daemon=True) for _ in range(3)]
        with httpx.Client(trust_env=False) as http:
            for kind in ("hang", "slow", "stuck"):
                http.post(f"{url}/_/faults", json={"kind": kind, "seconds": 600, "times": 1}).raise_for_status()
            for client in clients:
                client.start()
            while len(http.get(f"{url}/_/requests").json()["requests"]) < len(clients):
                time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(sign)
        process.wait(5)
        assert time.monotonic() - began < 2
        assert process.returncode == (0 if sign is signal.SIGINT else -signal.SIGTERM)
        for client in clients:
            client.join(5)
            assert not client.is_alive()
        assert process.stdout is not None
        assert process.stdout.read().endswith("Stop with Ctrl-C.\n")


LAUNCHER = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:])
print("pid", child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("with_parent", [True, False])
def test_with_parent_ends_when_its_parent_is_killed_and_otherwise_lives_on(with_parent):
    options = ["--port", "0", *(["--with-parent"] if with_parent else [])]
    command = [sys.executable, "-c", LAUNCHER, *COMMAND, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        url = url_of(parent)
        parent.kill()
        parent.wait()
        try:
            deadline = time.monotonic() + (5 if with_parent else 1)
            while answers(url) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert answers(url) is not with_parent
        finally:
            # Where the test fails it may be alive against expectation.
            if answers(url):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_asked_for_is_not_reported_as_trouble(stream):
    """Thousands of staged faults would fill a log, or the pipe of whoever started the sandbox and does not read it."""
    with started("--port", "0") as process:
        url = url_of(process)
        order = {"model": "gpt-image-2", "prompt": "a lighthouse", "stream": stream}
        with httpx.Client(base_url=url, trust_env=False, timeout=0.6) as http:
            for kind in ("reset_before", "reset_after", "truncate", "hang", "stuck", "fail"):
                http.post("/_/faults", json={"kind": kind, "times": 1, "seconds": 0.05}).raise_for_status()
                with contextlib.suppress(httpx.TransportError):
                    http.post("/openai/v1/images/generations", json=order, headers=KEY)
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read().endswith("Stop with Ctrl-C.\n")
