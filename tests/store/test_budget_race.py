"""Two real processes race for the last of a budget, and for a job. SQLite has one process, and no such race."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.store.books import Balance
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH
from tests.store.servers import ROOT, Server
from tests.store.worlds import LEASE, World, redis_world

ROUNDS = 20
AT_ONCE = 500
ENOUGH_FOR = 100


class Process:
    """A racer, seen from here."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def do(self, what: str, **how: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **how}) + "\n")
        self._process.stdin.flush()

    def said(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "it ended"
        return json.loads(line)


@pytest.fixture(params=["single", "clustered"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = redis_world(request.getfixturevalue(f"{request.param}_server"))
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def racers(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[Process, Process]]:
    """For them a lease has gone by since the world's noon."""
    server: Server = request.getfixturevalue(f"{world.kind}_server")
    with _process(server.url, "first") as first, _process(server.url, "second") as second:
        assert (first.said(), second.said()) == ("ready", "ready")
        yield first, second


@contextmanager
def _process(url: str, owner: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.store.racer", url, owner, str(orders.NOON + LEASE)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def both(racers: tuple[Process, Process]) -> tuple[Any, Any]:
    return racers[0].said(), racers[1].said()


def both_go_on(racers: tuple[Process, Process]) -> None:
    """From where each has loaded the same version of the job."""
    assert both(racers) == ("loaded", "loaded")
    for racer in racers:
        racer.do("go on")


def test_a_limit_for_a_hundred_jobs_lets_exactly_a_hundred_pass_in_every_round(
    world: World, racers: tuple[Process, Process]
) -> None:
    for number in range(ROUNDS):
        team = f"team-{number}"
        for racer in racers:
            racer.do("accept", team=team, jobs=AT_ONCE, day=ENOUGH_FOR * CEILING)
        outcomes = sum((Counter(said) for said in both(racers)), Counter())
        assert outcomes == {"Applied": ENOUGH_FOR, "OverBudget": 2 * AT_ONCE - ENOUGH_FOR}
        held = Balance(held=ENOUGH_FOR * CEILING)
        assert world.run(world.store.budget(team, DAY, MONTH)) == {DAY: held, MONTH: held}
        assert len(world.raw.due()) == (number + 1) * ENOUGH_FOR


def test_a_job_whose_lease_is_over_goes_to_one_process_and_one_attempt_is_opened(
    world: World, racers: tuple[Process, Process]
) -> None:
    for number in range(ROUNDS):
        job = world.run(world.accepted(f"team-{number}"))
        for position, racer in enumerate(racers):
            racer.do("decide", job=job.id, place=position)
        both_go_on(racers)
        said = sorted(both(racers), key=lambda one: bool(one["claimed"]))
        assert [one["claimed"] for one in said] == [False, True]
        assert said[0]["outcome"] in ("Stale", "Fenced")
        assert said[1]["outcome"] == "Applied"
        assert len(world.run(world.store.load(job.id)).attempts) == 1


def test_of_two_processes_that_change_the_same_version_one_has_to_look_again(
    world: World, racers: tuple[Process, Process]
) -> None:
    for number in range(ROUNDS):
        job = world.run(world.accepted(f"team-{number}"))
        world.run(world.happens(job, orders.opened(job)))
        for position, racer in enumerate(racers):
            racer.do("learn", job=job.id, number=position)
        both_go_on(racers)
        assert sorted(one["outcome"] for one in both(racers)) == ["Applied", "Stale"]
        assert world.run(world.store.load(job.id)).version == 3
