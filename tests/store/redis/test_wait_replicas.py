"""With `wait_replicas`, a commit is acknowledged only if a replica has it, also if it is sent again."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from gateway.store.base import Applied, StoreOutcomeUnknown, StoreUnavailable
from gateway.store.redis.access_problems import ACL_RULES
from gateway.store.redis.server_inspection import inspect_servers
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_until
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis.sentinel_servers import count_connected_replicas
from tests.store.redis_servers import RedisServer

# Long enough for several attempts, each over a new connection: the first one waits for a second.
TIMING = StoreTiming(command_timeout_seconds=3.0)


class ReplicatedServer(Struct, frozen=True):
    primary: RedisServer
    replica: RedisServer

    @contextmanager
    def freeze_replica(self) -> Iterator[None]:
        """Stops the replica for the block. It stays connected, and confirms nothing."""
        self.replica.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.replica.send_signal(signal.SIGCONT)


@pytest.fixture(params=["redis-server", pytest.param("valkey-server", marks=pytest.mark.thorough)])
def replicated_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReplicatedServer]:
    """Redis 7.0 and Valkey differ: for WAIT, a connection that wrote nothing needs no confirmation by Valkey's."""
    options = ("--repl-diskless-sync-delay", "0")
    with redis_servers.run_server(tmp_path / "primary", options=options, program=request.param) as primary:
        options = (*options, "--replicaof", "127.0.0.1", str(primary.port))
        with redis_servers.run_server(tmp_path / "replica", options=options, program=request.param) as replica:
            wait_until(lambda: count_connected_replicas(primary) == 1, "the replica is connected")
            yield ReplicatedServer(primary, replica)


@pytest.mark.thorough
def test_commit_that_no_replica_confirms_stays_unknown(replicated_server: ReplicatedServer) -> None:
    """As the documented user."""

    async def scenario() -> None:
        url = replicated_server.primary.create_user()
        async with open_store(url, wait_replicas=1, timing=TIMING) as store:
            assert store.warnings == ()
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            commit = job_factory.make_create_commit(NOON)
            with replicated_server.freeze_replica():
                for _ in range(2):
                    with pytest.raises(StoreOutcomeUnknown, match=r"0 replicas confirmed it"):
                        await store.commit(commit)
            assert await store.commit(commit) == Applied()
            assert await store.load_job(commit.job.id) == commit.job

    run_async(scenario())


def test_job_is_only_missing_if_a_replica_confirms_it(replicated_server: ReplicatedServer) -> None:
    """A primary that no replica follows may have been replaced."""

    async def scenario() -> None:
        async with open_store(replicated_server.primary.url, wait_replicas=1, timing=TIMING) as store:
            commit, other = job_factory.make_create_commit(NOON), job_factory.make_create_commit(NOON)
            assert await store.commit(commit) == Applied()
            assert await store.load_job(other.job.id) is None
            with replicated_server.freeze_replica():
                assert await store.load_job(commit.job.id) == commit.job
                with pytest.raises(StoreUnavailable, match=r"0 replicas confirmed it"):
                    await store.load_job(other.job.id)
                with pytest.raises(StoreUnavailable, match=r"0 replicas confirmed it"):
                    await store.load_documents(commit.job.id, "missing")
            assert await store.load_job(other.job.id) is None

    run_async(scenario())


def test_inspection_names_what_waiting_for_replicas_lacks(single_server: RedisServer) -> None:
    url = single_server.create_user(rules=f"{ACL_RULES} -wait")
    problems = run_async(inspect_servers(url, "checked", lambda: NOON, wait_replicas=1)).problems
    assert [problem.message for problem in problems] == [
        "The user in REDIS_URL lacks permissions in Redis: it may not execute WAIT.",
        "Redis has 0 connected replicas, and store.wait_replicas is 1: commits fail.",
    ]
    assert run_async(inspect_servers(url, "checked", lambda: NOON)).problems == ()
