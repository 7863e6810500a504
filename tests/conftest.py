"""Fixtures shared by every kind of test."""

from collections.abc import Iterator
from zlib import crc32

import pytest

# pytest explains failed assertions of these modules as it does in tests. This must precede their import.
pytest.register_assert_rewrite("tests.harness", "tests.chaos", "tests.flow")

from tests.harness import sandbox_runner  # noqa: E402

# Of the flow tests, which all run on SQLite, one in so many runs on Redis too.
FLOW_TESTS_PER_REDIS_TEST = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tests", action="store_true", help="run also the tests that only `make test-all` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that only `make test-all` runs, unless a file or a test is named."""
    if config.getoption("all_tests") or any(".py" in argument for argument in config.args):
        return
    deselected = [item for item in items if is_only_in_all_tests(item)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        left_out = set(deselected)
        items[:] = [item for item in items if item not in left_out]


def is_only_in_all_tests(item: pytest.Item) -> bool:
    if item.get_closest_marker("thorough"):
        return True
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    is_flow_on_redis = parameters.get("gateway_and_store") == "redis"
    return is_flow_on_redis and crc32(item.nodeid.encode()) % FLOW_TESTS_PER_REDIS_TEST != 0


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
