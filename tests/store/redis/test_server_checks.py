"""Checks of a Redis server before it gets jobs, and recovery after it was restarted."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.base import Applied, StoreMisconfigured, StoreUnavailable
from gateway.store.redis.access_problems import ACL_RULES
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.faulty_proxy import FaultyProxy
from tests.store.redis.redis_stores import count_discrepancies, open_store, run_async
from tests.store.redis_servers import RedisServer

MANAGED_ACL = ("-@all", "+@all", "-config", "-bgrewriteaof")


async def _open_and_commit(url: str, **options: str) -> tuple[str, ...]:
    async with open_store(url, **options) as store:
        assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
        return store.warnings


@contextmanager
def override_option(server: RedisServer, option: str, value: str) -> Iterator[None]:
    before = server.execute("CONFIG", "GET", option)
    before = before[option.encode()] if isinstance(before, dict) and option.encode() in before else before
    old = before[option] if isinstance(before, dict) else before[1] if isinstance(before, list) else before
    server.execute("CONFIG", "SET", option, value)
    try:
        yield
    finally:
        server.execute("CONFIG", "SET", option, old)


def test_well_configured_server_has_no_warnings(single_server: RedisServer, clustered_server: RedisServer) -> None:
    assert run_async(_open_and_commit(single_server.url)) == ()
    assert run_async(_open_and_commit(clustered_server.url)) == ()


@pytest.mark.parametrize("durability", ["checked", "declared"])
def test_evicting_server_is_rejected_even_if_declared_durable(single_server: RedisServer, durability: str) -> None:
    with (
        override_option(single_server, "maxmemory-policy", "allkeys-lru"),
        pytest.raises(StoreMisconfigured, match="noeviction"),
    ):
        run_async(_open_and_commit(single_server.url, durability=durability))


def test_server_without_aof_is_rejected_unless_declared_durable(single_server: RedisServer) -> None:
    with override_option(single_server, "appendonly", "no"):
        with pytest.raises(StoreMisconfigured, match="CONFIG SET appendonly yes"):
            run_async(_open_and_commit(single_server.url))
        assert "append-only" in run_async(_open_and_commit(single_server.url, durability="declared"))[0]


def test_server_with_appendfsync_everysec_causes_a_warning(single_server: RedisServer) -> None:
    with override_option(single_server, "appendfsync", "everysec"):
        assert "power failure" in run_async(_open_and_commit(single_server.url))[0]


def test_managed_server_with_hidden_configuration_must_be_declared(single_server: RedisServer) -> None:
    single_server.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", *MANAGED_ACL)
    url = single_server.url.replace("redis://", "redis://app:secret@")
    try:
        with pytest.raises(StoreMisconfigured, match="durability: declared"):
            run_async(_open_and_commit(url))
        assert len(run_async(_open_and_commit(url, durability="declared"))) == 3
    finally:
        single_server.execute("ACL", "DELUSER", "app")


def test_documented_user_has_the_rights_that_the_gateway_needs() -> None:
    """All conformance tests of the store run with them."""
    page = (redis_servers.REPOSITORY / "docs" / "stores.md").read_text()
    assert f"ACL SETUSER gateway on >PASSWORD {ACL_RULES}\n" in page


def test_old_redis_version_is_rejected(single_server: RedisServer) -> None:
    text = b"redis_version:6.2.14\r\nredis_mode:standalone\r\nrun_id:abc\r\n"
    reply = b"$%d\r\n%s\r\n" % (len(text), text)

    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy:
            proxy.reply_rule = lambda command: reply if command.upper() == b"INFO" else None
            with pytest.raises(StoreMisconfigured, match=r"6\.2\.14 is too old: 7\.0"):
                await _open_and_commit(proxy.url)

    run_async(scenario())


def test_wrong_password_is_reported(single_server: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match="Redis refuses the user or the password in REDIS_URL"):
        run_async(_open_and_commit(single_server.url.replace("redis://", "redis://app:wrong@")))


def test_unreachable_server_is_reported() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        run_async(_open_and_commit("redis://127.0.0.1:1/0"))


# The number of commands that a new job writes. The tests cut the record within one of them.
COMMANDS_PER_NEW_JOB = 13


@pytest.mark.one_in(10)
@pytest.mark.parametrize("command_index", [1, 3, 6, 9, COMMANDS_PER_NEW_JOB])
@pytest.mark.parametrize("last_transition", ["creation", "settling"])
def test_torn_aof_tail_is_not_applied_partly(tmp_path: Path, command_index: int, last_transition: str) -> None:
    """After a power failure during a write, the transition is stored completely or not at all. That also holds after
    the next restart, where old versions of Redis execute the partial record unless the file was rewritten."""

    async def commit_before_crash(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            await asyncio.to_thread(server.wait_for_aof_rewrite)
            first = job_factory.make_create_commit(NOON)
            assert await store.commit(first) == Applied()
            job = first.job
            for update in (job_factory.make_attempt_started(job), job_factory.make_ticket_received()):
                commit = job_factory.make_update_commit(job, update, NOON)
                assert await store.commit(commit) == Applied()
                job = commit.job
            last = (
                job_factory.make_create_commit(NOON)
                if last_transition == "creation"
                else job_factory.make_update_commit(job, job_factory.make_images_stored(job), NOON)
            )
            assert await store.commit(last) == Applied()
            saved.extend([first.job.id, job, last])

    async def check_after_restart(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            await asyncio.to_thread(server.wait_for_aof_rewrite)
            assert await count_discrepancies(store) == 0
            # This commit would also complete the cut transition if that were still in the file.
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            assert await store.load_job(saved[0]) == saved[1]
            if last_transition == "creation":
                assert await store.load_job(saved[2].job.id) is None
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with open_store(server.url) as store:
            assert await store.load_job(saved[0]) == saved[1]
            assert await store.commit(saved[2]) == Applied()
            assert await store.load_job(saved[2].job.id) == saved[2].job
            assert await count_discrepancies(store) == 0

    saved: list = []
    with redis_servers.run_single_server(tmp_path) as server:
        run_async(commit_before_crash(server))
        server.kill()
        _truncate_aof(tmp_path, command_index)
        server.start()
        run_async(check_after_restart(server))


@pytest.mark.thorough
@pytest.mark.one_in(7)
@pytest.mark.parametrize("command_index", range(1, COMMANDS_PER_NEW_JOB + 1))
def test_partly_applied_transition_is_repaired(tmp_path: Path, command_index: int) -> None:
    """Redis restarts twice while no gateway runs."""

    async def commit_before_crash(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            await asyncio.to_thread(server.wait_for_aof_rewrite)
            commit = job_factory.make_create_commit(NOON, day=10**9, n=3)
            assert await store.commit(commit) == Applied()
            saved.append(commit)

    async def check_after_restart(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            assert await count_discrepancies(store) == 0
            assert await store.commit(saved[0]) == Applied()
            assert await count_discrepancies(store) == 0
            assert saved[0].job.id in server.execute("ZRANGE", f"igw:{{{saved[0].job.id[4:6]}}}:due", 0, -1)[0].decode()

    saved: list = []
    with redis_servers.run_single_server(tmp_path) as server:
        run_async(commit_before_crash(server))
        server.kill()
        _truncate_aof(tmp_path, command_index)
        for _ in range(2):
            server.start()
            server.execute("EVAL", "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[1], 2)", 1, "something")
            server.kill()
        server.start()
        run_async(check_after_restart(server))


def _truncate_aof(folder: Path, command_index: int) -> None:
    """Cuts the file within a command of its last transition, as if the store had not closed afterwards."""
    [path] = (folder / "appendonlydir").glob("*.incr.aof")
    written, closing, _ = path.read_bytes().partition(b"*5\r\n$3\r\nSET\r\n$27\r\nigw:closed:")
    assert closing
    start = written.rindex(b"*1\r\n$5\r\nMULTI")
    assert written.endswith(b"*1\r\n$4\r\nEXEC\r\n")
    commands = [match.start() for match in re.finditer(rb"\*\d+\r\n\$\d+\r\n[A-Z]+\r\n", written[start:])]
    assert len(commands) >= COMMANDS_PER_NEW_JOB + 2, (
        "a new job writes fewer commands than before: update COMMANDS_PER_NEW_JOB"
    )
    path.write_bytes(written[: start + commands[command_index] + 6])
