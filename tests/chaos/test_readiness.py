"""Whoever cannot keep a job is sent none: `/readyz` says so while the store takes no writes, and only then."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import Stored
from tests.store.servers import Server

# Less than any file of the database: it cannot be written any more, whatever it wants to keep.
NO_ROOM = 4_096


@contextmanager
def no_room(one: Gateway) -> Iterator[None]:
    before = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (NO_ROOM, before[1]))
    try:
        yield
    finally:
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def no_server(server: Server) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.fixture
def trouble(stored: Stored, request: pytest.FixtureRequest) -> Callable[[Gateway], Any]:
    """The store takes no writes for as long as it lasts."""
    if stored.kind == "sqlite":
        return no_room
    server = request.getfixturevalue("redis_server")
    return lambda _: no_server(server)


def test_a_store_that_takes_no_writes_is_told_until_it_takes_them_again(
    stored: Stored, trouble: Callable[[Gateway], Any]
) -> None:
    with gateway(stored.folder, stored.config, stored.environ) as one, one.client() as client:
        assert _store(one, 200)["takes_writes"] is True
        with trouble(one):
            told = until(lambda: _store(one, 503), "it is not ready")
            assert (told["takes_writes"], told["kind"]) == (False, stored.kind)
            assert told["seconds_since_write"] >= 5
            assert client.get("/livez").status_code == 200
            assert post(client, "refused", "runapi").status_code == 503
        until(lambda: _store(one, 200), "it is ready again")
        assert post(client, "taken", "runapi", 30).status_code == 200


def _store(one: Gateway, status: int) -> Any:
    """What it says of its store, if it answers so."""
    answer = one.get("/readyz")
    told = answer.json()
    assert told["ready"] is (answer.status_code == 200)
    return told["store"] if answer.status_code == status else None
