"""Each exit code of commands that use a gateway, with the situation that it stands for."""

import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from gateway.api import request_body_reader
from gateway.commands.exit_codes import EXIT_CODE_MEANINGS, ExitCode
from gateway.commands.job_client import MAX_BODY_BYTES, SANDBOX_KEY
from gateway.commands.sandbox_catalogue import SANDBOX_KEY as CATALOGUE_KEY
from tests.command_line.client_commands import ClientCommands, accept_interrupts
from tests.harness.answering_server import run_answering_server
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ROOT, RunningGateway
from tests.harness.ports import reserve_port

PAGE = (ROOT / "docs" / "command-line.md").read_text()
LOW = ("--quality", "low")


def test_constants_equal_those_of_the_gateway() -> None:
    assert MAX_BODY_BYTES == request_body_reader.MAX_BODY_BYTES
    assert SANDBOX_KEY == CATALOGUE_KEY


def test_every_code_is_documented_in_page_and_help() -> None:
    rows = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+?) \|", PAGE, re.MULTILINE)}
    assert rows == {code.value: meaning for code, meaning in EXIT_CODE_MEANINGS.items()}
    help_text = run_command("generate", "--help").stdout
    assert [code for code in ExitCode if not re.search(rf"^ +{code}  ", help_text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "17x17"), "You were not charged."),
        (("--key", "wrong"), "Invalid API key"),
        (("--max-cost", "a lot"), "max_cost"),
        (("--policy", "unknown"), "policy"),
    ],
)
def test_request_that_the_gateway_refuses(commands: ClientCommands, arguments: tuple[str, ...], message: str) -> None:
    result = commands.run("generate", "a lighthouse", *LOW, *arguments)
    assert (result.returncode, result.stdout) == (ExitCode.REFUSED, "")
    assert message in result.stderr
    assert commands.list_files() == []


def test_content_filter(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse_content", vendor="runflow")
    result = commands.run("generate", "a lighthouse", *LOW, "--only", "runflow-runs")
    assert result.returncode in (ExitCode.REFUSED, ExitCode.PERHAPS_CHARGED)
    assert "content filter rejected" in result.stderr
    is_free = "You were not charged." in result.stderr
    assert (result.returncode == ExitCode.REFUSED) == is_free


def test_failure_that_was_not_charged(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse", vendor="runflow", route="submit")
    result = commands.run("generate", "a lighthouse", *LOW, "--only", "runflow-runs")
    assert result.returncode == ExitCode.NOT_CHARGED, result.stderr
    assert "You were not charged. (order_refused, job_" in result.stderr


def test_failure_that_a_seller_was_paid_for(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("empty_outputs", vendor="runflow")
    result = commands.run("generate", "a lighthouse", *LOW, "--only", "runflow-runs")
    assert result.returncode == ExitCode.PERHAPS_CHARGED, result.stderr
    assert "The seller was paid; you were not charged. (paid_not_delivered, job_" in result.stderr


def test_incomplete_delivery_writes_what_there_is(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("partial", vendor="runflow", missing=1)
    arguments = ("generate", "a lighthouse", *LOW, "-n", "3", "--only", "runflow-runs", "-o", "cat.png")
    result = commands.run(*arguments)
    assert result.returncode == ExitCode.INCOMPLETE, result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert commands.list_files() == result.stdout.splitlines()


@pytest.mark.parametrize("command", [("generate", "a lighthouse"), ("wait", "job_1"), ("job", "job_1")])
def test_unreachable_gateway(commands: ClientCommands, command: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{reserve_port()}"
    result = commands.run(*command, "--url", url, "--retry-seconds", "0")
    assert result.returncode == ExitCode.UNREACHABLE
    assert f"{url} is unreachable (ConnectError). Is the gateway running?" in result.stderr
    assert ("Nothing was ordered." in result.stderr) == (command[0] == "generate")
    assert "may have accepted" not in result.stderr, "nothing was sent"


@pytest.mark.parametrize(
    ("status", "exit_code", "message"),
    [
        (401, ExitCode.REFUSED, "rejected the sandbox's key. Set your team's"),
        (402, ExitCode.REFUSED, "synthetic"),
        (404, ExitCode.REFUSED, "synthetic"),
        (429, ExitCode.REFUSED, "synthetic"),
        (500, ExitCode.UNCONFIRMED, "with --idempotency-key cli-"),
        (502, ExitCode.UNCONFIRMED, "with --idempotency-key cli-"),
        (503, ExitCode.UNCONFIRMED, "with --idempotency-key cli-"),
        (301, ExitCode.ERROR, "redirects to https://images.example.com/: set --url"),
        (200, ExitCode.UNCONFIRMED, "with --idempotency-key cli-"),
    ],
)
def test_answer_of_each_class(commands: ClientCommands, status: int, exit_code: ExitCode, message: str) -> None:
    """The command says whether a job may exist: not after a refusal, perhaps after a failure of a server."""
    with run_answering_server(status, b'{"error": {"message": "synthetic"}}') as url:
        result = commands.run("generate", "a lighthouse", "--url", url, "--retry-seconds", "0.1")
    assert result.returncode == exit_code, result.stderr
    assert message in result.stderr
    assert ("--idempotency-key" in result.stderr) == (exit_code == ExitCode.UNCONFIRMED)


def test_gateway_that_disappears_while_waiting(commands: ClientCommands) -> None:
    accepted = b'{"id": "job_1", "status": "queued", "model": "m", "n": 1, "attempts": []}'
    with run_answering_server(202, accepted, answers=1) as url:
        result = commands.run("generate", "a lighthouse", "--url", url, "--retry-seconds", "0.1")
    assert result.returncode == ExitCode.UNREACHABLE
    assert find_resume_command(result.stderr) == ["wait", "job_1", "--url", url]


@pytest.mark.parametrize("command", [("jobs",), ("doctor", "--timeout", "60")])
def test_interrupt_of_a_command_without_job(commands: ClientCommands, command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with commands.start(*command, "--url", url) as running:
            connection, _ = server.accept()
            with connection:
                running.process.send_signal(signal.SIGINT)
                assert running.wait() == ExitCode.INTERRUPTED, running.stderr
    assert running.stderr == "Error: Interrupted.\n"


def test_interrupt_before_anything_was_sent(commands: ClientCommands) -> None:
    url = f"http://127.0.0.1:{reserve_port()}"
    with commands.start("generate", "a lighthouse", "--url", url) as running:
        running.wait_for_stderr("Retrying.")
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == ExitCode.INTERRUPTED
    assert "Interrupted." in running.stderr
    assert "Nothing was ordered." in running.stderr
    assert "may have accepted" not in running.stderr


def test_interrupt_while_the_request_has_no_answer(commands: ClientCommands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with commands.start("generate", "a", "--url", f"http://127.0.0.1:{server.getsockname()[1]}") as running:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100).startswith(b"POST /v1/jobs")
                running.process.send_signal(signal.SIGINT)
                assert running.wait() == ExitCode.INTERRUPTED
    assert "may have accepted the request" in running.stderr
    assert "--idempotency-key cli-" in running.stderr


# The signal is handled by another thread than the one that waits, as if it had come just before the wait began.
MISSED_INTERRUPT = """
import signal, sys, threading
from gateway.cli import main
def interrupt():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
main(["generate", "a", "--url", sys.argv[1]])
"""


def test_interrupt_just_before_the_wait_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-c", MISSED_INTERRUPT, url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=accept_interrupts,
        ) as process:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100).startswith(b"POST /v1/jobs")
                _, stderr = process.communicate(b"\n", timeout=50)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"may have accepted the request" in stderr


def test_server_of_another_kind(commands: ClientCommands, gateway: RunningGateway) -> None:
    result = commands.run("job", "job_1", "--url", f"{gateway.sandbox.url}/_")
    assert result.returncode in (ExitCode.REFUSED, ExitCode.ERROR)
    assert "Traceback" not in result.stderr


def test_unknown_job(commands: ClientCommands) -> None:
    result = commands.run("wait", "job_unknown")
    assert result.returncode == ExitCode.REFUSED
    assert "Job not found" in result.stderr


def test_timeout_leaves_the_job_running(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    charges = len(gateway.sandbox.list_charges())
    result = commands.run("generate", "a lighthouse", *LOW, "--timeout", "0.8", "-o", "cat.png")
    assert result.returncode == ExitCode.TIMED_OUT, result.stderr
    gateway.sandbox.release_orders()
    assert commands.run_successfully(*find_resume_command(result.stderr)) == ["cat.png"]
    assert commands.open_image("cat.png").format == "PNG"
    assert len(gateway.sandbox.list_charges()) == charges + 1


def test_interrupt_leaves_the_job_running(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    charges = len(gateway.sandbox.list_charges())
    with commands.start("generate", "a lighthouse", *LOW, "-o", "cat.png") as running:
        running.wait_for_stderr(": in progress at ")
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == ExitCode.INTERRUPTED, running.stderr
    assert "Interrupted." in running.stderr
    assert "Traceback" not in running.stderr
    gateway.sandbox.release_orders()
    assert commands.run_successfully(*find_resume_command(running.stderr)) == ["cat.png"]
    assert len(gateway.sandbox.list_charges()) == charges + 1


def test_unwritable_file_keeps_the_image_at_the_gateway(commands: ClientCommands, gateway: RunningGateway) -> None:
    """The file appears while the job runs."""
    gateway.sandbox.hold_orders()
    with commands.start("generate", "a lighthouse", *LOW, "-o", "cat.png") as running:
        running.wait_for_stderr(": in progress at ")
        (commands.folder / "cat.png").write_text("mine")
        gateway.sandbox.release_orders()
        assert running.wait() == ExitCode.ERROR, running.stderr
    assert (commands.folder / "cat.png").read_text() == "mine"
    commands.run_successfully(*find_resume_command(running.stderr), "--force")
    assert commands.open_image("cat.png").format == "PNG"


def find_resume_command(stderr: str) -> list[str]:
    match = re.search(r"Get its images with: image-gateway (.+)", stderr)
    assert match is not None, stderr
    return shlex.split(match[1])
