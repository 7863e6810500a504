"""Fixtures shared by every kind of test."""

from collections.abc import Iterator

import pytest

# pytest explains failed assertions of these modules as it does in tests. This must precede their import.
pytest.register_assert_rewrite("tests.harness", "tests.chaos", "tests.flow")

from tests.harness import sandbox_runner  # noqa: E402


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
