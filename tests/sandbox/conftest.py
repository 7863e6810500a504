"""Fixtures for the tests of the simulated vendors."""

from collections.abc import Iterator

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.callback_receiver import CallbackReceiver, run_receiver
from tests.sandbox.runapi_client import RunapiClient
from tests.sandbox.runflow_client import RunflowClient


@pytest.fixture
def runflow_client(sandbox: RunningSandbox) -> RunflowClient:
    """A client with an API key for the simulated Runflow."""
    return RunflowClient(sandbox)


@pytest.fixture
def runapi_client(sandbox: RunningSandbox) -> RunapiClient:
    """A client with an API key for the simulated RunAPI."""
    return RunapiClient(sandbox)


@pytest.fixture
def receiver() -> Iterator[CallbackReceiver]:
    with run_receiver() as running:
        yield running
