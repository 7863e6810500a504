"""Every test here is told to every kind of store, each time to one that is empty."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.store_harness import (
    SHARED_STORE_KINDS,
    STORE_KINDS,
    StoreHarness,
    make_redis_harness,
    make_sqlite_harness,
)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs on its world's own loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    harness = pyfuncitem.funcargs.get("world") or pyfuncitem.funcargs["replicas"]
    assert isinstance(harness, StoreHarness)
    harness.run_async(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(params=STORE_KINDS)
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def harness(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    yield from _open_harness(store_kind, request, tmp_path)


@pytest.fixture(params=SHARED_STORE_KINDS)
def shared_harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    """Only where several processes share a store; SQLite has one process (`test_one_process.py`)."""
    yield from _open_harness(str(request.param), request, tmp_path)


def _open_harness(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[StoreHarness]:
    harness = (
        make_sqlite_harness(folder)
        if kind == "sqlite"
        else make_redis_harness(request.getfixturevalue(f"{kind}_server"))
    )
    try:
        yield harness
    finally:
        harness.close()
