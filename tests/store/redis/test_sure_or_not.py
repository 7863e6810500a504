"""Whether a commit that failed may still be done: only if a server got it and its result is unknown."""

import asyncio
import socket

import pytest

from gateway.store.base import Applied, StoreFull, StoreUnavailable, StoreUnsure
from gateway.store.redis import lane
from tests.store import orders
from tests.store.orders import NOON
from tests.store.redis.meddler import SCRIPTS, Meddler, Rule, refusing
from tests.store.redis.stories import opened, run
from tests.store.servers import Server

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PATIENCE_SECONDS", 1.0)


@pytest.mark.parametrize("word", ["LOADING loading", "MISCONF disk", "OOM full", "READONLY replica", "NOREPLICAS none"])
def test_a_server_that_refuses_has_done_nothing(single_server: Server, word: str) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            commit = orders.acceptance(NOON)
            meddler.instead = refusing(word, 1_000)
            with pytest.raises(StoreUnavailable) as refused:
                await store.commit(commit)
            is_answer_of_a_script = not word.startswith("LOADING")
            assert isinstance(refused.value, StoreUnsure) is not is_answer_of_a_script
            assert isinstance(refused.value, StoreFull) is word.startswith("OOM")
            meddler.instead = None
            assert await store.load(commit.job.id) is None

    run(story())


def test_restarted_server_with_full_memory_has_done_nothing(single_server: Server) -> None:
    """It knows no script, which it says first, and then that there is no room."""

    async def story() -> None:
        async with opened(single_server.url) as store:
            commit = orders.acceptance(NOON)
            single_server.cli("SCRIPT", "FLUSH")
            single_server.cli("CONFIG", "SET", "maxmemory", "1mb")
            try:
                with pytest.raises(StoreFull):
                    await store.commit(commit)
            finally:
                single_server.cli("CONFIG", "SET", "maxmemory", "0")
            assert await store.load(commit.job.id) is None

    run(story())


def test_lost_answer_stays_in_doubt_though_the_script_is_unknown_later(single_server: Server) -> None:
    """The command was carried out; the server forgot its scripts and has no room by the time that it is asked again."""

    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            commit = orders.acceptance(NOON)
            assert await store.commit(orders.acceptance(NOON)) == Applied(), "the server knows the script by now"
            meddler.lose_answers, meddler.instead = 1, _forgotten_and_full(meddler)
            with pytest.raises(StoreUnsure):
                await store.commit(commit)
            meddler.instead = None
            assert await store.load(commit.job.id) == commit.job

    run(story())


def _forgotten_and_full(meddler: Meddler) -> Rule:
    """As soon as an answer was lost."""

    def answer(command: bytes) -> bytes | None:
        if meddler.lose_answers or command.upper() not in SCRIPTS:
            return None
        return b"-NOSCRIPT no such script\r\n" if command.upper() == b"EVALSHA" else b"-OOM no room\r\n"

    return answer


def test_a_server_that_cannot_be_connected_to_has_done_nothing(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            commit = orders.acceptance(NOON)
            single_server.stop()
            try:
                await asyncio.sleep(0.2)
                with pytest.raises(StoreUnavailable) as refused:
                    await store.commit(commit)
            finally:
                single_server.start()
            assert not isinstance(refused.value, StoreUnsure)
            assert await store.load(commit.job.id) is None

    run(story())


def test_a_store_that_is_closed_was_not_asked(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            pass
        with pytest.raises(StoreUnavailable) as refused:
            await store.commit(orders.acceptance(NOON))
        assert not isinstance(refused.value, StoreUnsure)

    run(story())


def test_a_server_that_was_asked_and_is_silent_may_do_it_yet(single_server: Server) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            assert await store.commit(orders.acceptance(NOON)) == Applied(), "the server knows the script by now"
            commit = orders.acceptance(NOON)
            meddler.flowing.clear()
            with pytest.raises(StoreUnsure):
                await store.commit(commit)
            meddler.flowing.set()
            # Behind the command that was held up, on the same connection or after it.
            await asyncio.sleep(1.0)
            assert await store.load(commit.job.id) == commit.job
            assert await store.commit(commit) == Applied()

    run(story())


def test_lost_answers_leave_it_open_whatever_is_answered_later(single_server: Server) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            commit = orders.acceptance(NOON)
            meddler.lose_answers = 1_000
            with pytest.raises(StoreUnsure):
                await store.commit(commit)
            meddler.lose_answers = 0
            assert await store.load(commit.job.id) == commit.job

    run(story())


def test_what_was_given_up_before_there_was_a_connection_is_never_sent(single_server: Server) -> None:
    """A server that accepts connections late, when no caller waits for the command any more."""

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
            async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
                port, meddler._port = meddler._port, silent.getsockname()[1]
                await store._link.client.connection_pool.disconnect()
                commit = orders.acceptance(NOON)
                with pytest.raises(StoreUnavailable):
                    await store.commit(commit)
                meddler._port = port
                await asyncio.sleep(1.0)
                assert await store.load(commit.job.id) is None

    run(story())
