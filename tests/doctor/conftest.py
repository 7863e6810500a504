"""An installation to examine."""

from pathlib import Path

import pytest

from tests.doctor.doctor_runner import Installation
from tests.harness.sandbox_runner import RunningSandbox


@pytest.fixture
def installation(tmp_path: Path, sandbox: RunningSandbox) -> Installation:
    return Installation(tmp_path, sandbox)
