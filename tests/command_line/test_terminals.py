"""What commands do in a terminal: the bar, colors, and images in its protocol."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.command_line.client_commands import PROGRAM, ClientCommands, accept_interrupts
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_runner import RunningGateway

TIMEOUT_SECONDS = 60.0
DEVICE_ATTRIBUTES_QUERY = b"\x1b[c"
COLOR = re.compile(rb"\x1b\[[0-9;]*m")
CONTROL_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
LOW = ("--quality", "low")


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, process: "subprocess.Popen[bytes]", fd: int) -> None:
        self.process, self._fd, self.output = process, fd, b""

    def read_until(self, condition: Callable[[bytes], bool], description: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition(self.output):
            assert time.monotonic() < deadline, f"no {description} in {self.output!r}"
            assert self._read(), f"ended without {description}: {self.output!r}"

    def read_to_end(self) -> int:
        while self._read():
            pass
        return self.process.wait(TIMEOUT_SECONDS)

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def _read(self) -> bool:
        """Reads a piece. Returns False at the end."""
        if not select.select([self._fd], [], [], TIMEOUT_SECONDS)[0]:
            return False
        try:
            piece = os.read(self._fd, 65_536)
        except OSError:
            return False
        self.output += piece
        return bool(piece)


@contextmanager
def run_in_terminal(commands: ClientCommands, *arguments: str, **environ: str) -> Iterator[Terminal]:
    fd, inner = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=commands.folder,
        env={**get_clean_environ(), "TERM": "xterm-256color", "COLUMNS": "100", **commands.environ, **environ},
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=make_controlling_terminal,
    )
    os.close(inner)
    try:
        yield Terminal(process, fd)
    finally:
        process.kill()
        process.wait()
        os.close(fd)


def make_controlling_terminal() -> None:
    """Runs in the child: opening a terminal makes it the one of the new session."""
    accept_interrupts()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def test_bar_shows_state_seller_time_and_cost(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    arguments = ("generate", "a lighthouse", *LOW, "--only", "runflow-runs", "-o", "cat.png")
    with run_in_terminal(commands, *arguments) as terminal:
        terminal.read_until(lambda output: b"in progress at runflow-runs" in output, "state")
        terminal.read_until(lambda output: re.search(rb"\d+ s of about [\d.]+ s, \$0\.\d+", output) is not None, "time")
        assert COLOR.search(terminal.output)
        gateway.sandbox.release_orders()
        assert terminal.read_to_end() == 0, terminal.output
    lines = CONTROL_CODES.sub(b"", terminal.output).replace(b"\r", b"").splitlines()
    assert b"cat.png" in lines
    assert re.search(rb"1 image by runflow-runs for \$0\.\d+ \(job_", terminal.output)


def test_no_color_keeps_the_bar_without_colors(commands: ClientCommands, gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    with run_in_terminal(commands, "generate", "a lighthouse", *LOW, "-o", "cat.png", NO_COLOR="1") as terminal:
        terminal.read_until(lambda output: b"in progress at" in output, "state")
        gateway.sandbox.release_orders()
        assert terminal.read_to_end() == 0, terminal.output
    colors = {match[0] for match in COLOR.finditer(terminal.output)}
    assert not [color for color in colors if re.search(rb"[\[;](3[0-8]|4[0-8]|9[0-7])[;m]", color)]


def test_dumb_terminal_gets_lines(commands: ClientCommands) -> None:
    with run_in_terminal(commands, "generate", "a lighthouse", *LOW, "-o", "cat.png", TERM="dumb") as terminal:
        assert terminal.read_to_end() == 0, terminal.output
    assert b"\x1b" not in terminal.output
    assert re.search(rb"job_\w+: (queued|in progress)", terminal.output)


def test_interrupt_in_terminal_restores_it_and_says_how_to_return(
    commands: ClientCommands, gateway: RunningGateway
) -> None:
    gateway.sandbox.hold_orders()
    with run_in_terminal(commands, "generate", "a lighthouse", *LOW) as terminal:
        terminal.read_until(lambda output: b"in progress at" in output, "state")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.read_to_end() == 130
    assert terminal.output.rfind(b"\x1b[?25h") > terminal.output.rfind(b"\x1b[?25l"), "the cursor is visible again"
    assert b"Get its images with: image-gateway wait job_" in terminal.output


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        ({"TERM": "xterm-kitty"}, b"\x1b_Ga=T,f=100,q=2,m="),
        ({"TERM_PROGRAM": "iTerm.app"}, b"\x1b]1337;File=inline=1;size="),
    ],
)
def test_show_draws_image_in_protocol_of_the_terminal(
    commands: ClientCommands, environ: dict[str, str], start: bytes
) -> None:
    with run_in_terminal(commands, "generate", "a lighthouse", *LOW, "--show", **environ) as terminal:
        assert terminal.read_to_end() == 0, terminal.output
    assert start in terminal.output


@pytest.mark.parametrize(
    ("answer", "is_drawn"),
    [(b"\x1b[?62;4;22c", True), (b"\x1b[?62;22c", False), (b"", False)],
    ids=["yes", "no", "mute"],
)
def test_show_asks_unknown_terminal_for_sixels(commands: ClientCommands, answer: bytes, is_drawn: bool) -> None:
    with run_in_terminal(commands, "generate", "a lighthouse", *LOW, "--show") as terminal:
        terminal.read_until(lambda output: DEVICE_ATTRIBUTES_QUERY in output, "query")
        terminal.write(answer)
        assert terminal.read_to_end() == 0, terminal.output
    assert (b"\x1bP0;1;0q" in terminal.output) == is_drawn
    assert (b"this terminal cannot show images" in terminal.output) != is_drawn


def test_show_without_terminal_is_a_warning(commands: ClientCommands) -> None:
    result = commands.run("generate", "a lighthouse", *LOW, "--show", "-o", "cat.png")
    assert (result.returncode, result.stdout) == (0, "cat.png\n")
    assert "this terminal cannot show images" in result.stderr
