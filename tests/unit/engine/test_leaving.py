"""Which jobs a replica leaves to others, and for how long it leaves them alone."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.engine import engine, leaving
from gateway.engine.desk import Desk
from gateway.engine.hands import Hands, Left
from gateway.engine.leaving import LOOK_SECONDS, MOST_LOOKS, SHORTEST_PAUSE, Leaver
from gateway.events import Trouble
from gateway.jobs.facts import JobConfirmed, JobExpired
from gateway.jobs.job import Place, Trace
from gateway.jobs.recovery import recover
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, START, Life, acceptance, place

OFFER = SimpleNamespace(seller=SimpleNamespace(account=SimpleNamespace(secret="known")), draining=False)
DISABLED = SimpleNamespace(seller=SimpleNamespace(account=SimpleNamespace(secret=None)), draining=False)


class Replica:
    """It knows these sellers, and notes what it leaves, for how long, and what it says of that."""

    def __init__(self, *known: str, disabled: tuple[str, ...] = ()) -> None:
        self.offers = dict.fromkeys(known, OFFER) | dict.fromkeys(disabled, DISABLED)
        self.pauses: list[float] = []
        self.told: list[Any] = []
        self.now = START + 1.0
        self.left = Left()

    def offer(self, seller: str, *_: object) -> Any:
        return self.offers.get(seller)

    def hands(self) -> Any:
        catalogue = SimpleNamespace(offer=self.offer)
        hands: Any = SimpleNamespace(
            catalogue=lambda: catalogue, store=self, emit=self.told.append, now=lambda: self.now, left=self.left
        )
        hands.offer_at = lambda place, model: Hands.offer_at(hands, place, model)
        hands.decides_about = lambda place, model: Hands.decides_about(hands, place, model)
        return hands

    async def snooze(self, job: str, fence: int, seconds: float) -> bool:
        self.pauses.append(seconds)
        return True

    def leaves(self, life: Life) -> bool:
        async def asked() -> bool:
            lost = asyncio.Event()
            leaver = Leaver(Desk(self.hands(), life.job, FENCE), lost.set)
            leaves = leaver.leaves(recover(life.job, self.now, is_accepted_here=True))
            if leaves:
                async with asyncio.timeout(5):
                    await lost.wait()
            return leaves

        return asyncio.run(asked())


def waiting(*route: Place, n: int = 1) -> Life:
    life = Life(acceptance(n=n, route=route))
    life.after(JobConfirmed(), 0.0)
    return life


RUNAPI, RUNFLOW = place("runapi", images=1), place("runflow-runs", images=1)


def test_what_waits_is_left_where_no_place_of_it_is_known() -> None:
    assert Replica().leaves(waiting(RUNAPI, RUNFLOW))
    assert Replica("openai").leaves(waiting(RUNAPI, RUNFLOW))
    assert Replica(disabled=("runapi", "runflow-runs")).leaves(waiting(RUNAPI, RUNFLOW))
    assert not Replica("runflow-runs").leaves(waiting(RUNAPI, RUNFLOW))


def test_what_waits_is_left_when_the_known_places_have_been_tried() -> None:
    life = waiting(RUNAPI, RUNFLOW)
    life.opens(1)
    life.fails(FaultKind.NO_CREDIT)
    assert Replica("runflow-runs").leaves(life)
    life.opens(0)
    life.fails(FaultKind.NO_CREDIT)
    assert not Replica().leaves(life), "nobody is left to buy from, wherever it is"


@pytest.mark.parametrize("trace", [Trace.REPLAY, Trace.SEARCH, Trace.CALLBACK])
def test_an_order_is_left_where_its_seller_is_unknown(trace: Trace) -> None:
    ordered, lost = waiting(place("runapi", trace=trace)), waiting(place("runapi", trace=trace))
    ordered.tickets()
    lost.loses()
    for life in (ordered, lost):
        assert Replica("openai").leaves(life)
        assert Replica(disabled=("runapi",)).leaves(life)
        assert not Replica("runapi").leaves(life)


def test_pictures_that_lie_at_an_unknown_seller_are_left() -> None:
    life = waiting(place("openai", asks=False))
    life.opens()
    life.readies(links=("https://pictures.example/1",))
    assert Replica().leaves(life)
    assert not Replica("openai").leaves(life)


def test_nothing_is_left_as_long_as_anything_can_be_done_here() -> None:
    """The answer to an order that is on its way may still come: it is only known to be lost where nobody waits."""
    life = waiting(RUNAPI, RUNFLOW, n=2)
    life.opens(0, (0,))
    assert not Replica().leaves(life)
    life.loses(1, (1,))
    assert not Replica().leaves(life)


def test_what_is_over_is_ended_by_whoever_there_is() -> None:
    life, replica = waiting(RUNAPI), Replica()
    replica.now = START + SECONDS + 1.0
    assert not replica.leaves(life)
    life.after(JobExpired(fence=FENCE), SECONDS + 1.0)
    assert not replica.leaves(life)
    assert replica.pauses == []


def test_it_is_said_once_and_done_again_after_pauses_that_grow() -> None:
    life, replica = waiting(RUNAPI, RUNFLOW), Replica()
    for _ in range(MOST_LOOKS + 5):
        assert replica.leaves(life)
    [told] = replica.told
    assert isinstance(told, Trouble)
    assert told.job == life.job.id
    assert "runapi, runflow-runs: not in this configuration" in told.what
    looks = [int(pause / LOOK_SECONDS) for pause in replica.pauses]
    assert looks == [*range(1, MOST_LOOKS + 1), *[MOST_LOOKS] * 5]
    assert all(pause % LOOK_SECONDS < LOOK_SECONDS / 2 for pause in replica.pauses)
    assert any(one != later for one, later in pairwise(replica.pauses[MOST_LOOKS:]))


def test_a_pause_ends_with_the_jobs_deadline() -> None:
    life, replica = waiting(RUNAPI), Replica()
    for left in (0.8, 0.001):
        replica.now = START + SECONDS - left
        assert replica.leaves(life)
    assert replica.pauses == [pytest.approx(0.8), SHORTEST_PAUSE]


def test_replicas_look_for_jobs_as_often_as_pauses_count_on() -> None:
    assert leaving.LOOK_SECONDS == engine.RESCUE_SECONDS


def test_only_the_last_jobs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.hands.MOST_LEFT", 2)
    left = Left()
    assert [left.again(job) for job in ("a", "b", "a", "c", "a", "b")] == [0, 0, 1, 0, 2, 0]
