"""The sandbox process: its ports, and when it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import httpx
import pytest

from sandbox.server import DEFAULT_PORT
from tests.harness import sandbox_runner
from tests.harness.sandbox_runner import read_url, start_sandbox_process
from tests.harness.wait import wait_for_value, wait_until

CLIENT_TIMEOUT_SECONDS = 60.0
AUTH_HEADERS = {"authorization": "Bearer sk-sandbox"}
SANDBOX_COMMAND = [sys.executable, "-m", "gateway.cli", "sandbox"]


# A sandbox always handles SIGINT, which programs ignore if a shell started the tests in the background.
start_sandbox = partial(
    start_sandbox_process,
    start_new_session=True,
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
)


def parse_port(url: str) -> int:
    return int(url.rpartition(":")[2])


def is_answering(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_/charges", trust_env=False, timeout=CLIENT_TIMEOUT_SECONDS).is_success
    except httpx.TransportError:
        return False


# Ports


def test_concurrent_sandboxes_take_different_port_pairs():
    with start_sandbox() as first, start_sandbox() as second, start_sandbox() as third:
        ports = [parse_port(read_url(process)) for process in (first, second, third)]
        all_ports = {port + offset for port in ports for offset in (0, 1)}
        assert len(all_ports) == 6
        assert all(port >= DEFAULT_PORT and (port - DEFAULT_PORT) % 2 == 0 for port in ports)
        assert all(is_answering(f"http://127.0.0.1:{port}") for port in ports)


def test_half_busy_port_pair_is_skipped():
    with socket.socket() as busy:
        # If another program uses the port already, the test works as well.
        with contextlib.suppress(OSError):
            busy.bind(("127.0.0.1", DEFAULT_PORT + 1))
            busy.listen()
        with start_sandbox() as process:
            assert parse_port(read_url(process)) > DEFAULT_PORT + 1


@pytest.mark.parametrize("half", [0, 1])
def test_requested_port_in_use_is_reported(half):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] - half
        result = subprocess.run(
            [*SANDBOX_COMMAND, "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT_SECONDS,
            check=False,
        )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "in use" in result.stderr.lower()
    assert str(port) in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_foreign_address_is_not_reported_as_port_in_use():
    result = subprocess.run(
        [*SANDBOX_COMMAND, "--host", "192.0.2.1", "--port", "18090"],
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert "in use" not in result.stderr
    assert "192.0.2.1" in result.stderr
    assert "Traceback" not in result.stderr


def test_port_zero_takes_any_free_pair():
    with sandbox_runner.run_sandbox() as sandbox:
        assert is_answering(sandbox.url)
        assert parse_port(sandbox.url) > 1023


# The end


def submit_order(url: str) -> None:
    order = {"model": "gpt-image-2", "prompt": "a lighthouse"}
    with contextlib.suppress(httpx.TransportError):
        httpx.post(
            f"{url}/openai/v1/images/generations",
            json=order,
            headers=AUTH_HEADERS,
            timeout=CLIENT_TIMEOUT_SECONDS,
            trust_env=False,
        )


@pytest.mark.thorough
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_sandbox_at_once_despite_hanging_requests(sign):
    with start_sandbox("--port", "0") as process:
        url = read_url(process)
        clients = [threading.Thread(target=submit_order, args=[url], daemon=True) for _ in range(3)]
        with httpx.Client(trust_env=False) as http:
            for kind in ("hang", "slow", "stuck"):
                http.post(f"{url}/_/faults", json={"kind": kind, "seconds": 600, "times": 1}).raise_for_status()
            for client in clients:
                client.start()
            wait_for_value(
                lambda: http.get(f"{url}/_/requests").json()["requests"],
                lambda requests: len(requests) >= len(clients),
                "all requests have arrived",
            )
        process.send_signal(sign)
        # The requests hang for ten minutes, and their clients wait for a minute.
        process.wait(CLIENT_TIMEOUT_SECONDS / 4)
        assert process.returncode == (0 if sign is signal.SIGINT else -signal.SIGTERM)
        for client in clients:
            client.join(CLIENT_TIMEOUT_SECONDS / 4)
            assert not client.is_alive()
        assert process.stdout is not None
        assert process.stdout.read().endswith("Stop with Ctrl-C.\n")


LAUNCHER_CODE = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:])
print("pid", child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("with_parent", [True, False])
def test_with_parent_stops_the_sandbox_when_its_parent_is_killed(with_parent):
    options = ["--port", "0", *(["--with-parent"] if with_parent else [])]
    command = [sys.executable, "-c", LAUNCHER_CODE, *SANDBOX_COMMAND, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        url = read_url(parent)
        parent.kill()
        parent.wait()
        try:
            if with_parent:
                wait_until(lambda: not is_answering(url), "the sandbox has ended")
            else:
                time.sleep(1)
                assert is_answering(url)
        finally:
            # If the test fails, the sandbox may still run.
            if is_answering(url):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("stream", [False, True])
def test_injected_faults_are_not_logged_as_errors(stream):
    """Thousands of injected faults would fill the log, or the pipe of a parent process that does not read it."""
    with start_sandbox("--port", "0") as process:
        url = read_url(process)
        order = {"model": "gpt-image-2", "prompt": "a lighthouse", "stream": stream}
        with httpx.Client(base_url=url, trust_env=False, timeout=0.6) as http:
            for kind in ("reset_before", "reset_after", "truncate", "hang", "stuck", "fail"):
                http.post("/_/faults", json={"kind": kind, "times": 1, "seconds": 0.05}).raise_for_status()
                with contextlib.suppress(httpx.TransportError):
                    http.post("/openai/v1/images/generations", json=order, headers=AUTH_HEADERS)
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.read().endswith("Stop with Ctrl-C.\n")
