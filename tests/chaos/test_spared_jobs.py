"""A chaos run does not kill the worker of a job whose next lease would outlast the run."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, ClaimedJob
from tests.chaos.program import gateway_life
from tests.chaos.program.gateway_life import KILLS_FILE, REACHED_FILE, FailpointKiller, GatewayLife, read_points
from tests.chaos.program.phase_clock import PhaseClock
from tests.chaos.program.replica_pool import PooledReplica, ReplicaPool
from tests.chaos.program.run_options import RunOptions
from tests.chaos.program.spared_jobs import MIN_SPARED_RECLAIMS, SparedJobs, read_spared_until
from tests.harness.manual_clock import ManualClock
from tests.store.job_factory import NOON, make_create_commit

LEASE_SECONDS = 3.0


def make_claimed_job(reclaims: int = MIN_SPARED_RECLAIMS, max_owned_seconds: float = 0.0) -> ClaimedJob:
    job = make_create_commit(NOON).job
    return ClaimedJob(job=job, fence=reclaims + 1, reclaims=reclaims, max_owned_seconds=max_owned_seconds)


# --- the jobs of a process


def test_job_that_lost_few_workers_is_not_spared(tmp_path: Path) -> None:
    spared_jobs = SparedJobs(tmp_path / "spared", LEASE_SECONDS, ManualClock())
    spared_jobs.add_claimed([make_claimed_job(MIN_SPARED_RECLAIMS - 1)])
    assert not spared_jobs.has_any
    assert read_spared_until(tmp_path / "spared") == 0.0


@pytest.mark.parametrize(("max_owned_seconds", "spared_seconds"), [(0.0, 3.0), (2.0, 2 * (2.0 + 1.0) + 3.0)])
def test_job_that_lost_many_workers_is_spared_until_one_survives(
    max_owned_seconds: float, spared_seconds: float, tmp_path: Path
) -> None:
    clock = ManualClock()
    spared_jobs = SparedJobs(tmp_path / "spared", LEASE_SECONDS, clock)
    spared_jobs.add_claimed([make_claimed_job(1), make_claimed_job(max_owned_seconds=max_owned_seconds)])
    assert read_spared_until(tmp_path / "spared") == clock.now + spared_seconds
    clock.now += spared_seconds - 0.1
    assert spared_jobs.has_any
    clock.now += 0.1
    assert not spared_jobs.has_any


def test_job_that_progressed_is_not_spared_any_more(tmp_path: Path) -> None:
    spared_jobs, path = SparedJobs(tmp_path / "spared", LEASE_SECONDS, ManualClock()), tmp_path / "spared"
    claimed_job, other_job = make_claimed_job(), make_claimed_job()
    spared_jobs.add_claimed([claimed_job])
    spared_jobs.remove(other_job.job.id)
    assert spared_jobs.has_any
    assert read_spared_until(path) > 0.0
    spared_jobs.remove(claimed_job.job.id)
    assert not spared_jobs.has_any
    assert read_spared_until(path) == 0.0


# --- kills at failpoints


class EngineEffects:
    """Calls effects as the engine does: from a module of the gateway."""

    def __init__(self, life: GatewayLife) -> None:
        self._killer = FailpointKiller(life)

    def run(self, failpoint: str, effect: str, result: object, commit: Commit | None = None) -> None:
        async def perform() -> object:
            return result

        asyncio.run(self._call(failpoint, effect, perform, commit))

    async def _call(
        self, failpoint: str, effect: str, perform: Callable[[], Awaitable[Any]], commit: Commit | None
    ) -> None:
        def intercept() -> Awaitable[Any]:
            return self._killer.run_effect(failpoint, effect, perform)

        namespace = {"__name__": "gateway.engine", "intercept": intercept}
        exec("def call(commit):\n    return intercept()", namespace)  # noqa: S102 - a frame of that module
        await namespace["call"](commit)  # type: ignore[operator]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    signals: list[int] = []
    monkeypatch.setattr(gateway_life.os, "kill", lambda _, number: signals.append(number))
    return signals


def test_process_does_not_kill_itself_while_a_job_is_spared(kills: list[int], tmp_path: Path) -> None:
    life = GatewayLife(
        folder=str(tmp_path),
        name="life",
        spared_path=str(tmp_path / "spared"),
        lease_seconds=LEASE_SECONDS,
        failpoints=frozenset({"claim", "load", "save"}),
        is_armed=True,
    )
    effects, commit = EngineEffects(life), make_create_commit(NOON)
    claimed_job = ClaimedJob(job=commit.job, fence=9, reclaims=MIN_SPARED_RECLAIMS)
    effects.run("claim", "store.claim_jobs", [make_claimed_job(1)])
    assert kills == [signal.SIGKILL]
    effects.run("claim", "store.claim_jobs", [claimed_job])
    effects.run("load", "store.load_job", None, commit)
    effects.run("save", "store.commit", None, commit)
    effects.run("save", "store.commit", Applied(), commit)
    assert kills == [signal.SIGKILL]
    assert {point.failpoint for point in read_points(tmp_path / REACHED_FILE)} == {"claim"}
    effects.run("load", "store.load_job", None, commit)
    assert kills == [signal.SIGKILL] * 2
    assert {point.failpoint for point in read_points(tmp_path / KILLS_FILE)} == {"claim", "load"}


# --- kills at any moment


class SignalledGateway:
    """A gateway that listens and collects the signals that it gets."""

    is_running = is_listening = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signals: list[int] = []

    def has_exited(self) -> bool:
        return False

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


def make_pool(folder: Path) -> tuple[ReplicaPool, PooledReplica, SignalledGateway]:
    """Makes a pool with one replica, whose life is to end now."""
    pool = ReplicaPool(RunOptions(folder=folder, replicas=1), folder, {}, 1)
    gateway, [replica] = SignalledGateway(folder), pool.replicas
    replica.gateway = gateway  # type: ignore[assignment]
    replica.end_at = 0.0
    return pool, replica, gateway


def test_gateway_is_killed_when_its_life_ends(tmp_path: Path) -> None:
    pool, _, gateway = make_pool(tmp_path)
    pool.step(time.monotonic())
    assert gateway.signals == [signal.SIGKILL]
    assert pool.counts.spared_lives == 0


def test_gateway_with_a_spared_job_is_killed_later(tmp_path: Path) -> None:
    pool, replica, gateway = make_pool(tmp_path)
    spared_jobs, claimed_job = SparedJobs(replica.spared_path, LEASE_SECONDS), make_claimed_job(max_owned_seconds=1e6)
    spared_jobs.add_claimed([claimed_job])
    pool.step(time.monotonic())
    pool.step(time.monotonic())
    assert gateway.signals == []
    assert pool.counts.spared_lives == 1
    spared_jobs.remove(claimed_job.job.id)
    pool.step(time.monotonic())
    assert gateway.signals == [signal.SIGKILL]


def test_jobs_of_an_earlier_life_spare_no_gateway(tmp_path: Path) -> None:
    pool, replica, gateway = make_pool(tmp_path)
    SparedJobs(replica.spared_path, LEASE_SECONDS).add_claimed([make_claimed_job(max_owned_seconds=1e6)])
    replica.life_number += 1
    pool.step(time.monotonic())
    assert gateway.signals == [signal.SIGKILL]


# --- the report


def test_report_says_how_long_each_phase_took() -> None:
    clock = ManualClock()
    phases = PhaseClock("start", clock)
    for phase, seconds in (("kills", 4.0), ("kills", 100.0), ("audit", 30.4)):
        clock.now += seconds
        phases.begin(phase)
    clock.now += 7.0
    assert phases.describe() == "start 4 s, kills 130 s, audit 7 s"
