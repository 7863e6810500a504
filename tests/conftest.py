"""Fixtures shared by every kind of test."""

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from zlib import crc32

import httpx
import pytest
from hypothesis import HealthCheck, settings

# Collecting makes a million objects that exist to the end: the garbage collector looks for none among them, neither now
# nor later.
gc.disable()
# pytest explains failed assertions of these modules as it does in tests. This must precede their import.
pytest.register_assert_rewrite("tests.harness", "tests.chaos", "tests.flow")

from tests.harness import sandbox_runner  # noqa: E402

# Hypothesis would fail tests on a busy machine, because an example or its generation takes long.
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Of tests that do not say how many examples they need.
settings.register_profile("quick", settings.get_profile("all"), max_examples=25)

# Each of httpx's clients would load all certificates, which takes it 17 ms. Tests create thousands of clients.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)

# Of the tests that run on each kind of store, a quick run has one in so many on these. The others run on SQLite and,
# without a gateway, in memory. A Redis in cluster mode refuses all that a single one does.
STORE_FIXTURES = ("gateway_and_store", "store_setup", "store", "store_kind", "shared_harness", "redis_harness")
SAMPLED_STORES = {"redis": 15, "single": 20, "clustered": 5}
# Of the tests in these folders, which start gateways, sellers and Redis, a quick run has one in so many, besides
# those with the marker `in_quick_run`.
SAMPLED_FOLDERS = {
    "api": 6,
    "chaos": 16,
    "clients": 20,
    "command_line": 8,
    "deploy": 4,
    "doctor": 6,
    "flow": 15,
    "sandbox": 4,
    "store/conformance": 3,
    "store/redis": 5,
    "store/sqlite": 3,
    "traces": 6,
}
FOLDERS_IN_ONE_PROCESS = ("api", "flow")
# Each of these tests takes long and shares nothing: each may run in another process.
SEPARATE_FOLDER = "explore"
FIRST_FOLDERS = (*FOLDERS_IN_ONE_PROCESS, SEPARATE_FOLDER, "chaos")
# pytest asks schemathesis for the examples of each route to find this file's tests, which takes it ten seconds.
SLOWLY_FOUND_FILE = "test_openapi_requests.py"
TESTS_FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tests", action="store_true", help="run also the tests that only `make test-all` runs")
    parser.addoption("--order", metavar="SEED", help="shuffle the files, and the tests in each file")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("all" if has_all_tests(config) else "quick")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.order:
        terminalreporter.write_line(f"Tests ran in random order: repeat it with --order {config.option.order}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name == SLOWLY_FOUND_FILE and not has_all_tests(config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Selects and shuffles. Afterwards pytest groups the tests that share a parametrized fixture of a module."""
    if not has_all_tests(config):
        leave_out_thorough_tests(config, items)
    if config.option.order:
        items[:] = shuffle_tests(items, config.option.order)
    # Otherwise one process could be busy with a large group at the end, while the others have nothing to do.
    items.sort(key=lambda item: get_folder(item) not in FIRST_FOLDERS)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(get_process_group(item)))


def get_process_group(item: pytest.Item) -> str:
    """Returns the name of the tests that run in one process: those of a file, or of a folder that shares gateways. Each
    process that runs one of them starts these, and they use the processor also while nothing is to be done."""
    folder = get_folder(item)
    if folder == SEPARATE_FOLDER:
        return item.nodeid
    return folder if folder in FOLDERS_IN_ONE_PROCESS else item.path.as_posix()


def get_folder(item: pytest.Item) -> str:
    return item.path.parent.relative_to(TESTS_FOLDER).as_posix()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def has_all_tests(config: pytest.Config) -> bool:
    return config.option.all_tests or any(".py" in argument for argument in config.args)


def shuffle_tests(items: list[pytest.Item], seed: str) -> list[pytest.Item]:
    """Shuffles the files, and the tests in each: a file's tests stay together, because they share fixtures."""
    random_source = Random(seed)  # noqa: S311
    items_by_file: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        items_by_file[item.path].append(item)
    files = list(items_by_file.values())
    for tests in (files, *files):
        random_source.shuffle(tests)
    return [item for tests in files for item in tests]


def leave_out_thorough_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that only `make test-all` runs."""
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
    return crc32(item.nodeid.encode()) % get_sample_size(item) == 0


def get_sample_size(item: pytest.Item) -> int:
    """Returns of how many tests like this one a quick run has one."""
    if item.get_closest_marker("in_quick_run"):
        return 1
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    store = next((parameters[name] for name in STORE_FIXTURES if name in parameters), None)
    if store in SAMPLED_STORES:
        return SAMPLED_STORES[store]
    return SAMPLED_FOLDERS.get(get_folder(item), 1)


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
