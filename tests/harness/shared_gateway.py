"""A running gateway for tests of what callers see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway_runner import RunningGateway, run_gateway


@pytest.fixture(scope="session")
def gateway_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One per test process: it takes seconds to start."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with run_gateway(folder) as running:
        yield running


@pytest.fixture
def gateway(gateway_process: RunningGateway) -> RunningGateway:
    """Its sellers are quick and do no mischief, and no job of another test is left to meet this one's faults."""
    gateway_process.sandbox.call_control_route("DELETE", "/faults")
    gateway_process.sandbox.set_latency(0.0)
    gateway_process.wait_until_idle()
    return gateway_process
