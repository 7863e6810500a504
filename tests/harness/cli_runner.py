"""Runs the installed command."""

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.gateway_runner import CONFIG, ROOT


def run_program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed `image-gateway` with the tests' configuration."""
    program = str(Path(sys.executable).parent / "image-gateway")
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environ = {"IGW_CONFIG": str(CONFIG), **environ}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=inherited | environ
    )
