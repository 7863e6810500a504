"""Fixtures shared by every kind of test."""

from collections.abc import Iterator

import pytest

from tests import vendors


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[vendors.Vendors]:
    """One sandbox per test process: starting one costs half a second, resetting it a millisecond."""
    with vendors.running() as running:
        yield running


@pytest.fixture
def sandbox(sandbox_process: vendors.Vendors) -> vendors.Vendors:
    """The simulated vendors: no charges yet, no faults, no latency."""
    sandbox_process.reset()
    return sandbox_process
