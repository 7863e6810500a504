"""Node.js with OpenAI's Node SDK, for the programs in `tests/clients/openai_node`."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM_FOLDER = Path(__file__).parents[1] / "clients" / "openai_node"
# The machine's node, or the one that `deploy/setup.sh dev` installs beside this Python.
SEARCH_PATH = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"


@pytest.fixture(scope="session")
def node_program() -> str:
    """Returns the path of `node`. Installs the SDK as locked, once for parallel test processes."""
    programs = shutil.which("node", path=SEARCH_PATH), shutil.which("npm", path=SEARCH_PATH)
    assert all(programs), "node and npm are needed: run deploy/setup.sh dev"
    with (PROGRAM_FOLDER / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed():
            command = [programs[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(
                command, cwd=PROGRAM_FOLDER, check=True, env={**os.environ, "PATH": SEARCH_PATH}, capture_output=True
            )
    return str(programs[0])


def _is_installed() -> bool:
    """Whether the locked SDK is installed. npm writes its copy of the lock last."""
    copy = PROGRAM_FOLDER / "node_modules" / ".package-lock.json"
    return copy.exists() and _read_openai_integrity(copy) == _read_openai_integrity(
        PROGRAM_FOLDER / "package-lock.json"
    )


def _read_openai_integrity(lock_path: Path) -> object:
    return json.loads(lock_path.read_text())["packages"]["node_modules/openai"]["integrity"]
