"""Fixtures shared by every kind of test."""

from collections import Counter
from collections.abc import Iterator
from zlib import crc32

import pytest

# pytest explains failed assertions of these modules as it does in tests. This must precede their import.
pytest.register_assert_rewrite("tests.harness", "tests.chaos", "tests.flow")

from tests.harness import sandbox_runner  # noqa: E402

# Tests with a gateway on each kind of store all run on SQLite. One in so many runs on Redis too.
TESTS_PER_REDIS_TEST = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tests", action="store_true", help="run also the tests that only `make test-all` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that only `make test-all` runs, unless a file or a test is named."""
    if config.getoption("all_tests") or any(".py" in argument for argument in config.args):
        return
    case_numbers: Counter[str] = Counter()
    selected, deselected = [], []
    for item in items:
        function_id = item.nodeid.partition("[")[0]
        (selected if is_in_quick_run(item, case_numbers[function_id]) else deselected).append(item)
        case_numbers[function_id] += 1
    config.hook.pytest_deselected(items=deselected)
    items[:] = selected


def is_in_quick_run(item: pytest.Item, case_number: int) -> bool:
    """`case_number`: how many cases of the same function came before."""
    if item.get_closest_marker("thorough"):
        return False
    sample = item.get_closest_marker("one_in")
    if sample and case_number % sample.args[0]:
        return False
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    is_on_redis = "redis" in (parameters.get("gateway_and_store"), parameters.get("store_setup"))
    return not is_on_redis or crc32(item.nodeid.encode()) % TESTS_PER_REDIS_TEST == 0


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
