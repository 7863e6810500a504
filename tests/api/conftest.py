"""A running gateway for tests of what callers see."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serving, serving


@pytest.fixture(scope="session")
def gateway_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One per test process: it takes seconds to start."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with serving(folder) as running:
        yield running


@pytest.fixture
def gateway(gateway_process: Serving) -> Serving:
    """Its sellers are quick and do no mischief, and no job of another test is left to meet this one's faults."""
    gateway_process.vendors.control("DELETE", "/faults")
    gateway_process.vendors.latency(0.0)
    gateway_process.come_to_rest()
    return gateway_process
