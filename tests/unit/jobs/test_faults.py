"""Each way an order can end without pictures: what is booked, and what becomes of the images."""

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from gateway.jobs.facts import AttemptGivenUp, OrderFailed, PicturesDelivered
from gateway.jobs.job import AttemptState, PartState, State
from gateway.jobs.tables import BOOKED_AS, Line
from providers.faults import VERDICTS, Bought, FaultKind
from tests.unit.jobs.living import FENCE, PRICE, Life, acceptance


class Row(NamedTuple):
    """One row of the table, in words of its own: held against the tables of the code, not read from them."""

    line: Line | None
    part: PartState
    reordered: PartState


FAIL_OVER = Row(None, PartState.WAITING, PartState.WAITING)
PERHAPS = Row(Line.SUSPECTED, PartState.FAILED, PartState.WAITING)
ROWS = {
    FaultKind.NOT_SENT: FAIL_OVER,
    FaultKind.NO_ROOM: FAIL_OVER,
    FaultKind.BAD_ORDER: FAIL_OVER,
    FaultKind.NOT_FOUND: FAIL_OVER,
    FaultKind.BAD_KEY: FAIL_OVER,
    FaultKind.NO_CREDIT: FAIL_OVER,
    FaultKind.FORBIDDEN: FAIL_OVER,
    FaultKind.RATE_LIMITED: FAIL_OVER,
    FaultKind.UNAVAILABLE: FAIL_OVER,
    FaultKind.FAILED: FAIL_OVER,
    FaultKind.INPUT_MISSING: Row(None, PartState.FAILED, PartState.FAILED),
    FaultKind.CONTENT_REFUSED: Row(None, PartState.FAILED, PartState.FAILED),
    FaultKind.LOST: PERHAPS,
    FaultKind.BROKEN: PERHAPS,
    FaultKind.OVERLOADED: PERHAPS,
    FaultKind.CONFLICT: PERHAPS,
    FaultKind.UNREADABLE: PERHAPS,
    FaultKind.UNKNOWN_WORD: PERHAPS,
    FaultKind.CANCELLED: PERHAPS,
    FaultKind.OVERDUE: PERHAPS,
    FaultKind.EMPTY: Row(Line.ORPHAN, PartState.WAITING, PartState.WAITING),
    FaultKind.EXPIRED: Row(Line.ORPHAN, PartState.FAILED, PartState.FAILED),
}
GIVEN_UP = [kind for kind in FaultKind if VERDICTS[kind].bought is not Bought.NO]


def booked(line: Line | None, amount: int = 2 * PRICE) -> dict[Line, int]:
    return {line: amount} if line else {}


def test_every_kind_stands_in_the_table() -> None:
    assert set(ROWS) == set(FaultKind)
    assert set(BOOKED_AS) == set(Bought)


@pytest.mark.parametrize("reorder", [False, True], ids=["fail", "reorder"])
@pytest.mark.parametrize("kind", FaultKind)
def test_what_is_booked_and_what_the_images_become(kind: FaultKind, reorder: bool) -> None:
    life = Life(acceptance(n=2, reorder=reorder))
    life.opens(images=(0, 1))
    life.fails(kind)
    row = ROWS[kind]
    state = row.reordered if reorder else row.part
    assert life.money() == booked(row.line)
    assert life.images(state) == [0, 1]
    assert life.ended() == ((State.IN_PROGRESS, False) if state.is_open else (State.FAILED, True))
    assert life.attempt.fault is life.job.parts[0].fault is kind
    assert life.job.fault == (None if state.is_open else kind)


@pytest.mark.parametrize("reorder", [False, True], ids=["fail", "reorder"])
@pytest.mark.parametrize("kind", FaultKind)
def test_the_last_try_ends_the_images_whatever_the_fault(kind: FaultKind, reorder: bool) -> None:
    life = Life(acceptance(n=2, reorder=reorder, tries=1))
    life.opens(images=(0, 1))
    life.fails(kind)
    assert life.money() == booked(ROWS[kind].line)
    assert life.images(PartState.FAILED) == [0, 1]
    assert life.ended() == (State.FAILED, True)
    assert life.job.fault is kind


@pytest.mark.parametrize("kind", FaultKind)
def test_a_ticket_does_not_change_what_an_end_means(kind: FaultKind) -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0, 1))
    assert life.attempt.state is AttemptState.TICKETED
    life.fails(kind)
    assert (life.money(), life.images(ROWS[kind].part)) == (booked(ROWS[kind].line), [0, 1])


@pytest.mark.parametrize("kind", FaultKind)
def test_a_charge_that_is_reported_all_the_same_is_believed(kind: FaultKind) -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0, 1))
    life.fails(kind, cost=90_001)
    assert life.money() == {Line.ORPHAN: 90_001}
    assert life.images(ROWS[kind].part) == [0, 1]


@pytest.mark.parametrize("kind", FaultKind)
def test_an_end_that_is_reported_to_have_cost_nothing_books_nothing(kind: FaultKind) -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0, 1))
    life.fails(kind, cost=0)
    assert (life.money(), life.images(ROWS[kind].part)) == ({}, [0, 1])


@pytest.mark.parametrize("kind", GIVEN_UP)
def test_giving_up_books_as_if_the_seller_had_said_so(kind: FaultKind) -> None:
    life = Life(acceptance(n=2))
    number = life.tickets(images=(0, 1))
    life.after(AttemptGivenUp(fence=FENCE, attempt=number, kind=kind), 420.0)
    assert (life.money(), life.images(ROWS[kind].part)) == (booked(ROWS[kind].line), [0, 1])


@pytest.mark.parametrize("kind", sorted(set(FaultKind) - set(GIVEN_UP)))
def test_giving_up_cannot_prove_that_nothing_was_bought(kind: FaultKind) -> None:
    life = Life()
    number = life.tickets()
    assert "does not prove" in life.ignores(AttemptGivenUp(fence=FENCE, attempt=number, kind=kind), 420.0)


@pytest.mark.parametrize("kind", FaultKind)
def test_once_pictures_exist_only_their_loss_ends_the_order(kind: FaultKind) -> None:
    """A contradiction, or a late answer to an older question: neither may buy a second image."""
    life = Life(acceptance(reorder=True))
    number = life.tickets()
    life.readies()
    failed = OrderFailed(attempt=number, kind=kind)
    if VERDICTS[kind].bought is Bought.YES:
        life.after(failed, 9.0)
        assert life.money() == {Line.ORPHAN: PRICE}
    else:
        given_up = AttemptGivenUp(fence=FENCE, attempt=number, kind=kind)
        assert life.ignores(failed)
        assert life.ignores(replace(failed, cost=0))
        assert life.ignores(given_up)


@pytest.mark.parametrize("kind", FaultKind)
def test_images_that_are_missing_from_a_delivery_follow_the_same_table(kind: FaultKind) -> None:
    life = Life(acceptance(n=2))
    number = life.tickets(images=(0, 1))
    life.after(PicturesDelivered(attempt=number, images=(0,), made=1, missing=kind), 9.0)
    assert life.images(PartState.DELIVERED) == [0]
    assert life.images(ROWS[kind].part) == [1]
    assert life.money() == {Line.CAPTURE: PRICE}


def test_a_refusal_is_told_before_any_other_reason() -> None:
    life = Life(acceptance(n=3, tries=1))
    for image, kind in enumerate((FaultKind.FAILED, FaultKind.CONTENT_REFUSED, FaultKind.LOST)):
        life.opens(images=(image,))
        life.fails(kind)
    assert life.job.fault is FaultKind.CONTENT_REFUSED


def test_a_refusal_of_one_image_lets_the_others_go_on() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0,))
    life.fails(FaultKind.CONTENT_REFUSED)
    life.opens(images=(1,))
    life.delivers((1,))
    assert life.job.state is State.COMPLETED
    assert life.job.fault is FaultKind.CONTENT_REFUSED
