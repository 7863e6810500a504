"""Runs every test of this folder with every kind of store, each time with an empty one."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.store_harness import REDIS_KINDS, SHARED_STORE_KINDS, STORE_KINDS, StoreHarness, open_harness


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test on the event loop of its harness."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    harness = next(argument for argument in pyfuncitem.funcargs.values() if isinstance(argument, StoreHarness))
    harness.run_async(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(params=STORE_KINDS)
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def harness(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    yield from open_harness(store_kind, request, tmp_path)


@pytest.fixture(params=SHARED_STORE_KINDS)
def shared_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    """A harness for stores that several replicas share. SQLite has one process (`test_single_process.py`)."""
    yield from open_harness(str(request.param), request, tmp_path)


@pytest.fixture(params=REDIS_KINDS)
def redis_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    """A harness for tests of the keys in a Redis server."""
    yield from open_harness(str(request.param), request, tmp_path)
