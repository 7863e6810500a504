"""Runs the installed command until it exits."""

import subprocess
import sys
from pathlib import Path

from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_runner import CONFIG, ROOT


def run_command(*arguments: str, folder: Path = ROOT, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs an `image-gateway` command in `folder`, with the tests' configuration and without a terminal's width."""
    inherited = {name: value for name, value in get_clean_environ().items() if name != "COLUMNS"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "image-gateway"), *arguments],
        cwd=folder,
        env={**inherited, "IGW_CONFIG": str(CONFIG), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
