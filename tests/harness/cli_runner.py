"""Runs a command until it exits."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_child import ChildFiles
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_process import ForkedProcess
from tests.harness.gateway_runner import CONFIG, ROOT

TIMEOUT_SECONDS = 60.0


def run_command(*arguments: str, folder: Path = ROOT, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs an `image-gateway` command in `folder`, with the tests' configuration and without a terminal's width.

    The process is forked from one that has imported everything, which saves a second.
    """
    with TemporaryDirectory() as output_folder:
        files = ChildFiles(folder, Path(output_folder, "stdout"), Path(output_folder, "stderr"))
        process = ForkedProcess(NO_CHANGES, arguments, _make_environ(environ), files)
        try:
            exit_code = process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, exit_code, files.stdout.read_text(), files.stderr.read_text())


def run_installed_program(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Runs the installed `image-gateway` in the repository, as `run_command` does."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "image-gateway"), *arguments],
        cwd=ROOT,
        env=_make_environ(environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def _make_environ(changes: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in get_clean_environ().items() if name != "COLUMNS"}
    return {**inherited, "IGW_CONFIG": str(CONFIG), **changes}
