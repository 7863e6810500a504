"""What a Redis must be like before it gets a job, and what is done after it was started anew."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.base import Applied, StoreUnavailable, StoreUnfit
from tests.store import orders, servers
from tests.store.orders import NOON
from tests.store.redis.meddler import Meddler
from tests.store.redis.stories import opened, run, violations
from tests.store.servers import Server

MANAGED = ("-@all", "+@all", "-config", "-bgrewriteaof")


async def _opens(url: str, **options: str) -> tuple[str, ...]:
    async with opened(url, **options) as store:
        assert await store.commit(orders.acceptance(NOON)) == Applied()
        return store.warnings


@contextmanager
def configured(server: Server, option: str, value: str) -> Iterator[None]:
    before = server.cli("CONFIG", "GET", option)
    before = before[option.encode()] if isinstance(before, dict) and option.encode() in before else before
    old = before[option] if isinstance(before, dict) else before[1] if isinstance(before, list) else before
    server.cli("CONFIG", "SET", option, value)
    try:
        yield
    finally:
        server.cli("CONFIG", "SET", option, old)


def test_a_good_server_has_nothing_to_be_warned_of(single_server: Server, clustered_server: Server) -> None:
    assert run(_opens(single_server.url)) == ()
    assert run(_opens(clustered_server.url)) == ()


@pytest.mark.parametrize("durability", ["checked", "declared"])
def test_a_server_that_throws_jobs_away_is_refused_however_it_is_declared(
    single_server: Server, durability: str
) -> None:
    with configured(single_server, "maxmemory-policy", "allkeys-lru"), pytest.raises(StoreUnfit, match="noeviction"):
        run(_opens(single_server.url, durability=durability))


def test_a_server_without_append_only_file_is_refused_unless_it_is_declared_durable(single_server: Server) -> None:
    with configured(single_server, "appendonly", "no"):
        with pytest.raises(StoreUnfit, match="CONFIG SET appendonly yes"):
            run(_opens(single_server.url))
        assert "append-only" in run(_opens(single_server.url, durability="declared"))[0]


def test_a_server_that_writes_a_little_later_is_used_with_a_warning(single_server: Server) -> None:
    with configured(single_server, "appendfsync", "everysec"):
        assert "power failure" in run(_opens(single_server.url))[0]


def test_a_managed_server_that_hides_its_configuration_must_be_declared(single_server: Server) -> None:
    single_server.cli("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", *MANAGED)
    url = single_server.url.replace("redis://", "redis://app:secret@")
    try:
        with pytest.raises(StoreUnfit, match="durability: declared"):
            run(_opens(url))
        assert len(run(_opens(url, durability="declared"))) == 3
    finally:
        single_server.cli("ACL", "DELUSER", "app")


def test_an_old_version_is_refused(single_server: Server) -> None:
    text = b"redis_version:6.2.14\r\nredis_mode:standalone\r\nrun_id:abc\r\n"
    answer = b"$%d\r\n%s\r\n" % (len(text), text)

    async def story() -> None:
        async with Meddler(single_server.port) as meddler:
            meddler.instead = lambda command: answer if command.upper() == b"INFO" else None
            with pytest.raises(StoreUnfit, match=r"6\.2\.14 is too old: 7\.0"):
                await _opens(meddler.url)

    run(story())


def test_a_wrong_password_is_said(single_server: Server) -> None:
    with pytest.raises(StoreUnavailable, match=r"WRONGPASS|invalid username-password"):
        run(_opens(single_server.url.replace("redis://", "redis://app:wrong@")))


def test_no_server_at_all_is_said() -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        run(_opens("redis://127.0.0.1:1/0"))


# In the middle of which of its commands the last transition's record ends. An acceptance writes this many.
COMMANDS = 13


@pytest.mark.parametrize("torn", [1, 3, 6, 9, COMMANDS])
@pytest.mark.parametrize("ending", ["acceptance", "settling"])
def test_a_torn_tail_is_not_carried_out_by_half(tmp_path: Path, torn: int, ending: str) -> None:
    """After a power failure in the middle of a write, the transition is there as a whole or not at all; also after
    the restart after that, where an old Redis carries out the torn half unless its file was written anew."""

    async def before(server: Server) -> None:
        async with opened(server.url) as store:
            await _rewritten(server)
            first = orders.acceptance(NOON)
            assert await store.commit(first) == Applied()
            job = first.job
            for happening in (orders.opened(job), orders.ticket()):
                commit = orders.changed(job, happening, NOON)
                assert await store.commit(commit) == Applied()
                job = commit.job
            last = (
                orders.acceptance(NOON) if ending == "acceptance" else orders.changed(job, orders.delivered(job), NOON)
            )
            assert await store.commit(last) == Applied()
            known.extend([first.job.id, job, last])

    async def after(server: Server) -> None:
        async with opened(server.url) as store:
            await _rewritten(server)
            assert await violations(store) == 0
            # What is written from now on would end the torn transition, too, if that were still in the file.
            assert await store.commit(orders.acceptance(NOON)) == Applied()
            assert await store.load(known[0]) == known[1]
            if ending == "acceptance":
                assert await store.load(known[2].job.id) is None
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with opened(server.url) as store:
            assert await store.load(known[0]) == known[1]
            assert await store.commit(known[2]) == Applied()
            assert await store.load(known[2].job.id) == known[2].job
            assert await violations(store) == 0

    known: list = []
    with servers.single(tmp_path) as server:
        run(before(server))
        server.kill()
        _tear(tmp_path, torn)
        server.start()
        run(after(server))


@pytest.mark.parametrize("torn", range(1, COMMANDS + 1))
def test_a_half_that_was_carried_out_all_the_same_is_mended(tmp_path: Path, torn: int) -> None:
    """Two restarts with no gateway in between."""

    async def before(server: Server) -> None:
        async with opened(server.url) as store:
            await _rewritten(server)
            commit = orders.acceptance(NOON, day=10**9, n=3)
            assert await store.commit(commit) == Applied()
            known.append(commit)

    async def after(server: Server) -> None:
        async with opened(server.url) as store:
            assert await violations(store) == 0
            assert await store.commit(known[0]) == Applied()
            assert await violations(store) == 0
            assert known[0].job.id in server.cli("ZRANGE", f"igw:{{{known[0].job.id[4:6]}}}:due", 0, -1)[0].decode()

    known: list = []
    with servers.single(tmp_path) as server:
        run(before(server))
        server.kill()
        _tear(tmp_path, torn)
        for _ in range(2):
            server.start()
            server.cli("EVAL", "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[1], 2)", 1, "something")
            server.kill()
        server.start()
        run(after(server))


def _tear(folder: Path, torn: int) -> None:
    """The file ends in the middle of a command of its last transition; its store, which closed after that, did not."""
    [path] = (folder / "appendonlydir").glob("*.incr.aof")
    written, closing, _ = path.read_bytes().partition(b"*5\r\n$3\r\nSET\r\n$27\r\nigw:closed:")
    assert closing
    begins = written.rindex(b"*1\r\n$5\r\nMULTI")
    assert written.endswith(b"*1\r\n$4\r\nEXEC\r\n")
    commands = [found.start() for found in re.finditer(rb"\*\d+\r\n\$\d+\r\n[A-Z]+\r\n", written[begins:])]
    assert len(commands) >= COMMANDS + 2, "an acceptance writes less than it did: count its commands anew"
    path.write_bytes(written[: begins + commands[torn] + 6])


async def _rewritten(server: Server) -> None:
    ends = time.monotonic() + 10
    while (said := server.cli("INFO", "persistence"))["aof_rewrite_in_progress"] or said["aof_rewrite_scheduled"]:
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)
