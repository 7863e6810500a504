"""Two real processes race for the rest of a budget, and for a job. SQLite has one process and no such race."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.budgets import WindowKind
from gateway.store.ledger_totals import BudgetBalance
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH
from tests.store.redis_servers import REPOSITORY, RedisServer
from tests.store.store_harness import LEASE_SECONDS, REDIS_KINDS, StoreHarness, open_harness

ROUNDS = 20
JOBS_PER_PROCESS = 500
JOBS_IN_BUDGET = 100


class RacingProcess:
    """A race worker, as the test controls it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def send_command(self, command: str, **arguments: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()

    def read_reply(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the race worker has ended"
        return json.loads(line)


@pytest.fixture(params=REDIS_KINDS)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    yield from open_harness(str(request.param), request, tmp_path)


@pytest.fixture
def racers(harness: StoreHarness, request: pytest.FixtureRequest) -> Iterator[tuple[RacingProcess, RacingProcess]]:
    """Two processes whose clocks are one lease ahead of the harness."""
    server: RedisServer = request.getfixturevalue(f"{harness.store_kind}_server")
    with _start_process(server.url, "first") as first, _start_process(server.url, "second") as second:
        assert (first.read_reply(), second.read_reply()) == ("ready", "ready")
        yield first, second


@contextmanager
def _start_process(url: str, replica_id: str) -> Iterator[RacingProcess]:
    command = [sys.executable, "-m", "tests.store.race_worker", url, replica_id, str(job_factory.NOON + LEASE_SECONDS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield RacingProcess(process)
        finally:
            process.kill()


def read_both_replies(racers: tuple[RacingProcess, RacingProcess]) -> tuple[Any, Any]:
    return racers[0].read_reply(), racers[1].read_reply()


def continue_both(racers: tuple[RacingProcess, RacingProcess]) -> None:
    """Lets both continue after each has loaded the same version of the job."""
    assert read_both_replies(racers) == ("loaded", "loaded")
    for racer in racers:
        racer.send_command("continue")


@pytest.mark.thorough
@pytest.mark.parametrize("key_id", ["", "k1"], ids=["team", "key"])
@pytest.mark.parametrize("kind", WindowKind)
def test_budget_for_a_hundred_jobs_admits_exactly_a_hundred(
    harness: StoreHarness, racers: tuple[RacingProcess, RacingProcess], kind: WindowKind, key_id: str
) -> None:
    limits = {kind.value: JOBS_IN_BUDGET * CEILING}
    for number in range(ROUNDS):
        team = f"team-{number}"
        for racer in racers:
            racer.send_command("create_jobs", team=team, job_count=JOBS_PER_PROCESS, limits=limits, key_id=key_id)
        outcomes = sum((Counter(reply) for reply in read_both_replies(racers)), Counter())
        assert outcomes == {"Applied": JOBS_IN_BUDGET, "BudgetExceeded": 2 * JOBS_PER_PROCESS - JOBS_IN_BUDGET}
        held = BudgetBalance(held=JOBS_IN_BUDGET * CEILING)
        balances = harness.run_async(harness.store.load_balances(team, DAY, MONTH, key_id=key_id))
        assert balances == {DAY: held, MONTH: held}
        assert len(harness.raw_store.read_due_times()) == (number + 1) * JOBS_IN_BUDGET


def test_job_with_expired_lease_is_claimed_and_started_once(
    harness: StoreHarness, racers: tuple[RacingProcess, RacingProcess]
) -> None:
    for number in range(ROUNDS):
        job = harness.run_async(harness.create_job(f"team-{number}"))
        for position, racer in enumerate(racers):
            racer.send_command("claim_and_start", job_id=job.id, route_index=position)
        continue_both(racers)
        replies = sorted(read_both_replies(racers), key=lambda reply: bool(reply["claimed"]))
        assert [reply["claimed"] for reply in replies] == [False, True]
        assert replies[0]["outcome"] in ("VersionConflict", "LeaseLost")
        assert replies[1]["outcome"] == "Applied"
        assert len(harness.run_async(harness.store.load_job(job.id)).attempts) == 1


def test_one_of_two_concurrent_updates_is_version_conflict(
    harness: StoreHarness, racers: tuple[RacingProcess, RacingProcess]
) -> None:
    for number in range(ROUNDS):
        job = harness.run_async(harness.create_job(f"team-{number}"))
        harness.run_async(harness.apply_updates(job, job_factory.make_attempt_started(job)))
        for position, racer in enumerate(racers):
            racer.send_command("record_callback", job_id=job.id, time_offset=position)
        continue_both(racers)
        assert sorted(reply["outcome"] for reply in read_both_replies(racers)) == ["Applied", "VersionConflict"]
        assert harness.run_async(harness.store.load_job(job.id)).version == 3
