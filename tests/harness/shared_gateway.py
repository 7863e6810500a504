"""One gateway for all tests of a process, as fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway


@pytest.fixture(scope="session")
def gateway_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One gateway per test process, because it starts slowly."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with run_sandboxed_gateway(folder) as running:
        yield running


@pytest.fixture
def gateway(gateway_process: RunningGateway) -> RunningGateway:
    """The shared gateway, idle, with a sandbox without faults and latency."""
    return clear_gateway(gateway_process)


def clear_gateway(running: RunningGateway) -> RunningGateway:
    """Ends what an earlier test left, and returns the gateway."""
    running.sandbox.call_control_route("DELETE", "/faults")
    running.sandbox.release_orders()
    running.wait_until_idle()
    running.forget_earlier_problems()
    return running
