"""Standard streams that are closed, full, or without a reader: each has a message, an exit code and no traceback."""

import os
import subprocess

import pytest

from gateway.commands.exit_codes import ExitCode
from tests.command_line.client_commands import PROGRAM, ClientCommands
from tests.harness.gateway_environ import get_clean_environ

GENERATE = 'generate "a lighthouse" --quality low'


def run_in_shell(commands: ClientCommands, line: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Runs the program with the redirections of the line."""
    environ = {
        **get_clean_environ(),
        **commands.environ,
        "PATH": f"{os.path.dirname(PROGRAM)}:{os.environ['PATH']}",
    } | changes
    command = ["bash", "-c", f"image-gateway {line}"]
    result = subprocess.run(
        command, cwd=commands.folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr
    return result


@pytest.mark.parametrize(
    ("line", "has_job"),
    [(f"{GENERATE} -o -", True), (f"{GENERATE} -o cat.png", True), ("jobs", False), (f"{GENERATE} --quote", False)],
)
def test_full_standard_output_is_an_error(commands: ClientCommands, line: str, has_job: bool) -> None:
    run_in_shell(commands, f"{GENERATE} -o earlier.png")
    result = run_in_shell(commands, f"{line} > /dev/full")
    assert result.returncode == ExitCode.ERROR
    assert "Standard output cannot be written: No space left on device." in result.stderr
    assert ("Get its images with: image-gateway wait job_" in result.stderr) == has_job


def test_image_without_reader_is_kept_at_the_gateway(commands: ClientCommands) -> None:
    result = run_in_shell(commands, f"{GENERATE} -o - | true; exit ${{PIPESTATUS[0]}}")
    assert result.returncode == ExitCode.ERROR
    assert "Broken pipe" in result.stderr
    assert "Get its images with: image-gateway wait job_" in result.stderr


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_not_keep_the_image_from_its_file(commands: ClientCommands, redirections: str) -> None:
    result = run_in_shell(commands, f"{GENERATE} -o cat.png {redirections}")
    assert result.returncode == ExitCode.DELIVERED, result.stderr
    assert commands.open_image("cat.png").format == "PNG"


def test_prompt_of_closed_standard_input_is_empty(commands: ClientCommands) -> None:
    result = run_in_shell(commands, "generate - <&-")
    assert result.returncode == ExitCode.INVALID_OPTIONS
    assert "The prompt is empty" in result.stderr


def test_image_of_standard_input_is_edited(commands: ClientCommands) -> None:
    run_in_shell(commands, f"{GENERATE} -o cat.png")
    result = run_in_shell(commands, 'generate "make it winter" --edit - --quality low -o winter.png < cat.png')
    assert result.returncode == ExitCode.DELIVERED, result.stderr
    assert commands.open_image("winter.png").format == "PNG"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate - --edit - < /dev/null", "Only one of prompt, images and mask can be -"),
        ('generate "a cat" --edit - --mask - < /dev/null', "Only one of prompt, images and mask can be -"),
        ('generate "a cat" --edit - < /dev/null', "--edit: - is empty"),
        ('generate "a cat" --edit - <&-', "--edit: - is empty"),
        ('generate "a cat" --edit - < /dev/zero', "--edit: - is larger than 64 MiB"),
    ],
)
def test_invalid_use_of_standard_input_is_explained(commands: ClientCommands, line: str, message: str) -> None:
    result = run_in_shell(commands, line)
    assert result.returncode == ExitCode.INVALID_OPTIONS
    assert message in result.stderr


def test_terminal_without_unicode_shows_escape_sequences(commands: ClientCommands) -> None:
    result = run_in_shell(commands, "jobs --label nothing; image-gateway doctor", PYTHONIOENCODING="ascii:strict")
    assert result.returncode == 1
    assert "\\u2192" in result.stdout
