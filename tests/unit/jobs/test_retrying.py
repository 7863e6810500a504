"""A seller that did not take an order and says when to ask again may be asked once more, if nobody else is left."""

import pytest

from gateway.api.failures import failure_response
from gateway.api.shown import headers_of
from gateway.jobs.commit import decode_job
from gateway.jobs.facts import AttemptOpened, PartGivenUp
from gateway.jobs.job import PartState, State
from gateway.jobs.recovery import Buy, next_look, recover
from gateway.jobs.retrying import retries_of
from providers.faults import VERDICTS, Bought, FaultKind, Then
from tests.unit.jobs.living import FENCE, SECONDS, START, Life, acceptance, place

ALONE = (place("runapi"),)
BUSY = FaultKind.RATE_LIMITED


def refused(life: Life, rest: float | None, kind: FaultKind = BUSY, where: int = 0, seconds: float = 0.0) -> None:
    """The next attempt is opened, and its seller does not take the order."""
    life.opens(where, seconds=seconds)
    life.fails(kind, seconds, retry_after=rest)


def buys(life: Life, seconds: float = 0.0) -> list[Buy]:
    return [todo for todo in recover(life.job, START + seconds) if isinstance(todo, Buy)]


def test_sole_seller_is_asked_again_at_the_moment_that_it_named() -> None:
    life = Life(acceptance(route=ALONE))
    refused(life, 2.0)
    assert buys(life) == [Buy(images=(0,), places=(), retries=((0, START + 2.0),))]
    assert next_look(life.job, START) == START + 2.0
    again = AttemptOpened(fence=FENCE, place=0, images=(0,))
    assert "has been tried" in life.ignores(again, 1.9)
    life.after(again, 2.0)
    life.delivers(seconds=3.0)
    assert life.ended() == (State.COMPLETED, True)


def test_moment_that_a_seller_named_is_saved_with_the_job() -> None:
    life = Life(acceptance(route=ALONE))
    refused(life, 2.0)
    blob = life.commits[-1].blob
    assert retries_of(decode_job(blob), life.job.parts[0]) == ((0, START + 2.0),)


@pytest.mark.parametrize("kind", FaultKind)
def test_only_what_surely_was_not_bought_and_passes_is_tried_again(kind: FaultKind) -> None:
    life = Life(acceptance(route=ALONE))
    refused(life, 2.0, kind)
    verdict = VERDICTS[kind]
    may = verdict.bought is Bought.NO and verdict.passes and verdict.then is Then.FAIL_OVER
    assert bool([buy for buy in buys(life) if buy.retries]) is may


@pytest.mark.parametrize("seconds", [None, SECONDS + 1, 1e9, float("nan"), float("inf")])
def test_seller_that_names_no_moment_before_the_deadline_is_not_asked_again(seconds: float | None) -> None:
    life = Life(acceptance(route=ALONE))
    refused(life, seconds)
    assert [buy.retries for buy in buys(life)] == [()]


def test_places_that_were_not_tried_come_first_and_then_the_soonest() -> None:
    life = Life(acceptance(tries=4))
    refused(life, 30.0, where=0)
    refused(life, 10.0, where=1)
    (buy,) = buys(life)
    assert buy.places == (2,)
    assert [where for where, _ in buy.retries] == [1, 0]


def test_tries_of_one_place_are_as_many_as_the_policy_allows() -> None:
    life = Life(acceptance(route=ALONE, tries=3))
    for number in range(3):
        refused(life, 2.0, seconds=3.0 * number)
    assert life.ended() == (State.FAILED, True)
    assert len(life.job.attempts) == 3


def test_last_answer_of_a_place_counts() -> None:
    life = Life(acceptance(route=ALONE))
    refused(life, 2.0)
    refused(life, None, seconds=3.0)
    assert [buy.retries for buy in buys(life, 3.0)] == [()]


@pytest.mark.parametrize(("seconds", "told"), [(40.0, "40"), (0.0, "1"), (2.2, "3"), (5_000.0, "120"), (None, "60")])
def test_caller_is_told_what_the_seller_said(seconds: float | None, told: str) -> None:
    life = Life(acceptance(route=ALONE, tries=1))
    refused(life, seconds)
    assert life.images(PartState.FAILED) == [0]
    assert headers_of(life.job)["retry-after"] == told
    response = failure_response(life.job)
    assert (response.status, str(response.retry_after)) == (503, told)
    assert f"Retry in {told} seconds" in response.message


def test_caller_is_told_of_the_pause_of_a_seller_that_was_not_even_asked() -> None:
    life = Life(acceptance(route=ALONE))
    life.after(PartGivenUp(fence=FENCE, images=(0,), kind=BUSY, retry_after=33.0))
    assert headers_of(life.job)["retry-after"] == "33"
