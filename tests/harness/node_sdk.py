"""Node.js with the packages of `tests/clients/node_programs`."""

import os
import shutil
import sys
from pathlib import Path

import pytest

PROGRAM_FOLDER = Path(__file__).parents[1] / "clients" / "node_programs"
# The node that `deploy/setup.sh dev` installs beside this Python, or the machine's.
SEARCH_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def find_node_program() -> str:
    """Returns the path of `node`. Fails unless the packages of the lock are installed."""
    lock, installed_lock = PROGRAM_FOLDER / "package-lock.json", PROGRAM_FOLDER / "node_modules" / ".installed-lock"
    program = shutil.which("node", path=SEARCH_PATH)
    assert program, "node is needed: run deploy/setup.sh dev"
    is_installed = installed_lock.exists() and installed_lock.read_bytes() == lock.read_bytes()
    assert is_installed, "the packages of node_programs are not installed: run deploy/setup.sh dev"
    return program


@pytest.fixture(scope="session")
def node_program() -> str:
    return find_node_program()
