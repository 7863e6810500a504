"""Fixtures of the vendors' own tests."""

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runflow_client import RunflowClient


@pytest.fixture
def runflow_client(sandbox: RunningSandbox) -> RunflowClient:
    """Somebody with a key to the simulated Runflow."""
    return RunflowClient(sandbox)
