"""What becomes known when an order was closed already: only the books change, and never what the team paid."""

import pytest
from msgspec.structs import replace

from gateway.jobs.facts import (
    AnswerLost,
    AttemptGivenUp,
    Happening,
    OrderFact,
    OrderFailed,
    PicturesDelivered,
    PicturesReady,
    TicketLearned,
)
from gateway.jobs.job import AttemptState, State
from gateway.jobs.tables import Line
from providers.faults import VERDICTS, Bought, FaultKind, Patience
from tests.unit.jobs.living import FENCE, PRICE, Life, acceptance

LATE = 500.0


def suspected() -> Life:
    """Two images whose order was not traced."""
    life = Life(acceptance(n=2))
    number = life.loses(images=(0, 1))
    life.after(AttemptGivenUp(fence=FENCE, attempt=number, kind=FaultKind.LOST), 120.0)
    assert (life.ended(), life.money()) == ((State.FAILED, True), {Line.SUSPECTED: 2 * PRICE})
    return life


def entries(life: Life) -> list[tuple[Line, int, int]]:
    return [(entry.line, entry.amount, entry.images) for entry in life.commits[-1].ledger]


@pytest.mark.parametrize("happening", [PicturesReady(attempt=1), PicturesDelivered(attempt=1, images=(0, 1))])
def test_a_suspicion_that_proves_true_becomes_an_orphan(happening: Happening) -> None:
    life = suspected()
    life.after(happening, LATE)
    assert entries(life) == [(Line.ORPHAN, 2 * PRICE, 2), (Line.SUSPECTED, -2 * PRICE, -2)]
    assert life.money() == {Line.ORPHAN: 2 * PRICE}
    assert life.job.delivered == ()


def test_a_suspicion_is_taken_back_when_the_seller_says_that_it_failed() -> None:
    life = suspected()
    life.after(OrderFailed(attempt=1, kind=FaultKind.FAILED), LATE)
    assert entries(life) == [(Line.SUSPECTED, -2 * PRICE, -2)]
    assert life.money() == {}


@pytest.mark.parametrize("cost", [1, 70_000])
def test_a_failure_that_was_charged_is_an_orphan_of_that_much(cost: int) -> None:
    life = suspected()
    life.after(OrderFailed(attempt=1, kind=FaultKind.FAILED, cost=cost), LATE)
    assert life.money() == {Line.ORPHAN: cost}


@pytest.mark.parametrize(
    "happening",
    [
        PicturesReady(attempt=1, cost=0),
        PicturesDelivered(attempt=1, images=(0, 1), cost=0),
        PicturesDelivered(attempt=1, images=(), made=0),
        OrderFailed(attempt=1, kind=FaultKind.CANCELLED, cost=0),
    ],
    ids=["ready", "delivered", "nothing made", "cancelled"],
)
def test_a_suspicion_that_proves_to_have_cost_nothing_is_taken_back(happening: Happening) -> None:
    life = suspected()
    life.after(happening, LATE)
    assert life.money() == {}


@pytest.mark.parametrize("kind", FaultKind)
def test_a_late_fault_is_believed_only_if_it_tells_how_the_order_ended(kind: FaultKind) -> None:
    life = suspected()
    fact = OrderFailed(attempt=1, kind=kind)
    verdict = VERDICTS[kind]
    if verdict.when_asking is not Patience.BELIEVE or verdict.bought is Bought.PERHAPS:
        assert "no more than was known" in life.ignores(fact, LATE)
    else:
        life.after(fact, LATE)
        assert life.money() == ({Line.ORPHAN: 2 * PRICE} if verdict.bought is Bought.YES else {})


def test_pictures_of_an_order_that_had_failed_are_an_orphan() -> None:
    life = Life(acceptance(tries=1))
    life.tickets()
    life.fails(FaultKind.FAILED)
    assert life.money() == {}
    life.after(PicturesReady(attempt=1, cost=88_000), LATE)
    assert life.money() == {Line.ORPHAN: 88_000}


def test_pictures_of_an_order_that_was_replaced_are_an_orphan() -> None:
    """The team pays for one image, whichever order it came from."""
    life = Life(acceptance(reorder=True))
    life.loses()
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.LOST), 120.0)
    life.opens(1, seconds=121.0)
    life.after(PicturesDelivered(attempt=1, images=(0,)), 130.0)
    assert life.ended() == (State.IN_PROGRESS, False)
    life.delivers(seconds=140.0)
    assert life.money() == {Line.CAPTURE: PRICE, Line.ORPHAN: PRICE}


@pytest.mark.parametrize(
    "again",
    [
        PicturesDelivered(attempt=1, images=(0,)),
        PicturesDelivered(attempt=1, images=(0,), cost=5),
        PicturesReady(attempt=1),
        OrderFailed(attempt=1, kind=FaultKind.FAILED),
        OrderFailed(attempt=1, kind=FaultKind.EMPTY, cost=9),
        AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.OVERDUE),
        AnswerLost(attempt=1),
    ],
    ids=lambda happening: type(happening).__name__,
)
def test_what_is_delivered_stays_as_it_is(again: Happening) -> None:
    life = Life()
    life.tickets()
    life.delivers()
    life.ignores(again, LATE)
    assert life.money() == {Line.CAPTURE: PRICE}


def test_late_pictures_are_booked_once_whatever_is_told_of_them_next() -> None:
    life = suspected()
    life.after(PicturesReady(attempt=1), LATE)
    for again in (
        PicturesReady(attempt=1),
        PicturesReady(attempt=1, cost=5),
        PicturesDelivered(attempt=1, images=(0, 1)),
        OrderFailed(attempt=1, kind=FaultKind.FAILED),
    ):
        life.ignores(again, LATE + 1)
    assert life.money() == {Line.ORPHAN: 2 * PRICE}


def test_a_charge_of_nothing_is_remembered_when_the_pictures_are_told_of_again() -> None:
    life = Life(acceptance(tries=1))
    life.tickets()
    life.fails(FaultKind.FAILED, cost=0)
    life.ignores(PicturesReady(attempt=1), LATE)
    assert life.money() == {}


def test_a_ticket_that_comes_late_is_kept_for_whoever_asks() -> None:
    life = suspected()
    life.after(TicketLearned(attempt=1, ticket="run-late"), LATE)
    assert (life.attempt.ticket, life.attempt.state) == ("run-late", AttemptState.CLOSED)
    assert life.money() == {Line.SUSPECTED: 2 * PRICE}
    assert life.ended() == (State.FAILED, True)


@pytest.mark.parametrize("number", [-1, 0, 2, 10**30])
@pytest.mark.parametrize(
    "fact",
    [TicketLearned(attempt=0, ticket="x"), PicturesReady(attempt=0), OrderFailed(attempt=0, kind=FaultKind.FAILED)],
    ids=lambda fact: type(fact).__name__,
)
def test_facts_about_orders_that_do_not_exist_are_ignored(number: int, fact: OrderFact) -> None:
    life = Life()
    life.opens()
    assert life.ignores(replace(fact, attempt=number)) == "no such attempt"


def test_an_answer_is_lost_only_while_it_is_awaited() -> None:
    life = Life()
    number = life.opens()
    life.after(AnswerLost(attempt=number), 1.0)
    assert life.ignores(AnswerLost(attempt=number), 9.0) == "nothing new"
    life.after(TicketLearned(attempt=number, ticket="run-1"), 10.0)
    assert life.attempt.lost is None
    assert "nothing is lost" in life.ignores(AnswerLost(attempt=number), 11.0)
    life.readies(12.0)
    assert "nothing is lost" in life.ignores(AnswerLost(attempt=number), 13.0)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if VERDICTS[kind].bought is not Bought.PERHAPS])
def test_only_a_fault_that_leaves_it_open_can_lose_an_answer(kind: FaultKind) -> None:
    """Otherwise the order could neither be traced nor given up."""
    life = Life()
    number = life.opens()
    assert life.ignores(AnswerLost(attempt=number, kind=kind))
