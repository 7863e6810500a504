"""Runs the examples of README and of the pages of `docs`, which name the gateway's default address."""

import subprocess
from pathlib import Path

from tests.harness.gateway_runner import RunningGateway

README_URL = "http://127.0.0.1:8080"


def run_bash_example(gateway: RunningGateway, folder: Path, example: str) -> str:
    """Runs an example in a shell, with the address of the test's gateway, and returns its output."""
    command = ["bash", "-c", f"set -euo pipefail\n{example.replace(README_URL, gateway.url)}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout
