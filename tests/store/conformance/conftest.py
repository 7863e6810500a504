"""Every test here is told to every kind of store, each time to one that is empty."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.worlds import KINDS, REPLICATED, World, redis_world, sqlite_world


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs on its world's own loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    world = pyfuncitem.funcargs.get("world") or pyfuncitem.funcargs["replicas"]
    assert isinstance(world, World)
    world.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(params=KINDS)
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    yield from _world(store_kind, request, tmp_path)


@pytest.fixture(params=REPLICATED)
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Only where several processes share a store; SQLite has one process (`test_one_process.py`)."""
    yield from _world(str(request.param), request, tmp_path)


def _world(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    world = sqlite_world(folder) if kind == "sqlite" else redis_world(request.getfixturevalue(f"{kind}_server"))
    try:
        yield world
    finally:
        world.close()
