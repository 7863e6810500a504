"""Fixtures shared by every kind of test."""

from collections.abc import Iterator

import pytest

from tests.harness import sandbox_runner


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[sandbox_runner.RunningSandbox]:
    """One sandbox per test process: a start takes half a second, a reset a millisecond."""
    with sandbox_runner.run_sandbox() as running:
        yield running


@pytest.fixture
def sandbox(sandbox_process: sandbox_runner.RunningSandbox) -> sandbox_runner.RunningSandbox:
    """The sandbox without charges, faults and latency."""
    sandbox_process.reset()
    return sandbox_process
