"""`image-gateway completion`: what a shell offers after Tab."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.command_line.client_commands import PROGRAM
from tests.harness.cli_runner import run_command
from tests.harness.gateway_environ import get_clean_environ

SHELL_PROBE = """
eval "$(image-gateway completion bash)"
COMP_WORDS=(image-gateway {words}) COMP_CWORD={position}
_image_gateway_completion image-gateway
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("gen",), {"generate"}),
        (("generate", "--max-"), {"--max-price", "--max-cost", "--max-seconds"}),
        (("generate", "--show-as", ""), {"kitty", "iterm", "sixel"}),
        (("wait", "--for"), {"--force"}),
    ],
)
def test_bash_completes_commands_options_and_values(words: tuple[str, ...], offered: set[str]) -> None:
    script = SHELL_PROBE.format(words=" ".join(word or "''" for word in words), position=len(words))
    path = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        env={**get_clean_environ(), "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(result.stdout.split()) == offered


@pytest.mark.parametrize(("shell", "text"), [("zsh", "#compdef image-gateway"), ("fish", "complete --no-files")])
def test_other_shells_get_their_script(shell: str, text: str) -> None:
    assert text in run_command("completion", shell).stdout
