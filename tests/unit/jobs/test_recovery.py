"""What whoever takes a job over has to do, for every shape that a job can have."""

import pytest

from gateway.jobs.facts import (
    AnswerLost,
    AttemptGivenUp,
    CallbackSeen,
    CancelAsked,
    JobAbandoned,
    JobConfirmed,
    JobExpired,
)
from gateway.jobs.job import Trace
from gateway.jobs.recovery import (
    NO_FORMER,
    Abandon,
    AwaitCallback,
    AwaitFormer,
    Buy,
    Expire,
    Fetch,
    Former,
    GiveUp,
    LosePictures,
    LoseTrack,
    Poll,
    Resend,
    Search,
    Todo,
    next_look,
    recover,
)
from providers.faults import VERDICTS, Bought, FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, START, Life, acceptance, place

DAY = 86_400.0
# Took the first order over after three seconds, with a lease of fifteen.
BEFORE = Former(until=START + 18, attempts=1)


def todos(life: Life, seconds: float, rescues: int = 0, former: Former = NO_FORMER) -> tuple[Todo, ...]:
    """Of an owner that knows that the job was accepted."""
    return recover(life.job, START + seconds, rescues, former, is_accepted_here=True)


def look(life: Life, seconds: float) -> float | None:
    at = next_look(life.job, START + seconds)
    return None if at is None else at - START


def bought_from(**more: object) -> Life:
    return Life(acceptance(route=(place(**more),)))


# --- what is not bought yet


def test_a_queued_job_is_bought_from_the_best_on() -> None:
    assert todos(Life(acceptance(n=2)), 0) == (Buy(images=(0, 1), places=(0, 1, 2)),)


def test_each_part_that_waits_is_bought_where_it_was_not_tried() -> None:
    life = Life(acceptance(n=3))
    life.opens(1, (0, 1))
    life.fails(FaultKind.FAILED)
    life.opens(0, (2,))
    assert todos(life, 3) == (LoseTrack(attempt=2), Buy(images=(0, 1), places=(0, 2)))


def test_with_every_place_tried_there_is_nobody_left_to_buy_from() -> None:
    life = bought_from()
    life.opens()
    life.fails(FaultKind.FAILED)
    assert todos(life, 3) == (Buy(images=(0,), places=()),)


# --- orders whose ticket is known


def test_an_order_with_a_ticket_is_asked_about_until_its_deadline() -> None:
    life = Life()
    life.tickets()
    assert todos(life, 419.9) == (Poll(attempt=1, ticket="run-1", until=START + 420),)
    assert todos(life, 420) == (GiveUp(attempt=1, kind=FaultKind.OVERDUE),)


def test_pictures_that_exist_are_asked_for_as_long_as_sellers_keep_them() -> None:
    life = Life()
    life.tickets()
    life.readies()
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert todos(life, DAY - 1) == (Poll(attempt=1, ticket="run-1", until=START + DAY),)
    assert todos(life, DAY) == (GiveUp(attempt=1, kind=FaultKind.EXPIRED),)


def test_a_seller_that_is_slower_than_a_day_is_given_its_own_time() -> None:
    life = bought_from(patience=2 * DAY)
    life.tickets()
    life.readies()
    assert todos(life, 10)[0] == Poll(attempt=1, ticket="run-1", until=START + 2 * DAY)


def test_pictures_are_fetched_from_where_they_lie() -> None:
    life = bought_from(asks=False)
    life.opens()
    life.readies(links=("https://a.example/1",))
    assert todos(life, 10) == (Fetch(attempt=1, links=("https://a.example/1",)),)
    assert todos(life, SECONDS) == (Expire(),)
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert todos(life, DAY) == (GiveUp(attempt=1, kind=FaultKind.EXPIRED),)


def test_pictures_that_nobody_can_ask_for_again_are_lost_with_their_owner() -> None:
    life = bought_from(asks=False)
    life.opens()
    life.readies()
    assert todos(life, 3) == (LosePictures(attempt=1, kind=FaultKind.EXPIRED),)


# --- orders whose answer is lost


@pytest.mark.parametrize("trace", Trace)
def test_an_order_found_opened_has_lost_its_answer_with_whoever_sent_it(trace: Trace) -> None:
    life = bought_from(trace=trace)
    life.opens()
    assert todos(life, 3) == (LoseTrack(attempt=1),)
    life.after(AnswerLost(attempt=1), 3)
    assert todos(life, 3) != (LoseTrack(attempt=1),)


def test_a_seller_that_never_sells_the_same_twice_is_sent_the_same_again() -> None:
    life = bought_from(trace=Trace.REPLAY)
    life.loses()
    assert todos(life, 419) == (Resend(attempt=1, until=START + 420),)
    assert todos(life, 420) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


def test_a_seller_that_lists_its_orders_is_searched_for_two_minutes() -> None:
    life = bought_from(trace=Trace.SEARCH)
    life.loses(seconds=30)
    assert todos(life, 149.9) == (Search(attempt=1, until=START + 150),)
    assert todos(life, 150) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


def test_a_seller_that_only_calls_back_is_awaited_for_two_minutes() -> None:
    life = bought_from(trace=Trace.CALLBACK)
    life.loses(seconds=30)
    assert todos(life, 149.9) == (AwaitCallback(attempt=1, until=START + 150),)
    assert todos(life, 150) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


@pytest.mark.parametrize(("trace", "todo"), [(Trace.SEARCH, Search), (Trace.CALLBACK, AwaitCallback)])
def test_who_called_back_has_the_order_and_is_given_its_whole_time(trace: Trace, todo: type[Todo]) -> None:
    life = bought_from(trace=trace)
    life.loses(seconds=30)
    life.after(CallbackSeen(attempt=1), 40)
    (found,) = todos(life, 419)
    assert isinstance(found, todo)
    assert todos(life, 420) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


@pytest.mark.parametrize("trace", [Trace.REPLAY, Trace.SEARCH, Trace.CALLBACK])
def test_an_order_lost_near_its_deadline_or_after_is_still_traced_for_two_minutes(trace: Trace) -> None:
    """Its owner may have been dead for an hour: that is no reason not to look. A callback never shortens it."""
    life = bought_from(trace=trace, patience=60.0)
    life.loses(seconds=500)
    life.after(CallbackSeen(attempt=1), 501)
    (todo,) = todos(life, 619)
    assert isinstance(todo, Resend | Search | AwaitCallback)
    assert todos(life, 620) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


def test_a_synchronous_order_is_unknown_at_once() -> None:
    life = bought_from(asks=False)
    life.loses()
    assert todos(life, 1) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if VERDICTS[kind].bought is Bought.PERHAPS])
@pytest.mark.parametrize(("trace", "until"), [(Trace.NONE, 2), (Trace.SEARCH, 121), (Trace.REPLAY, 420)])
def test_what_lost_the_answer_is_why_the_order_is_given_up(trace: Trace, until: float, kind: FaultKind) -> None:
    life = bought_from(trace=trace)
    life.opens()
    life.after(AnswerLost(attempt=1, kind=kind))
    assert todos(life, until) == (GiveUp(attempt=1, kind=kind),)
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=kind), until)
    assert life.attempt.fault is kind


@pytest.mark.parametrize(
    ("trace", "then"),
    [
        (Trace.NONE, GiveUp(attempt=1, kind=FaultKind.LOST)),
        (Trace.REPLAY, Resend(attempt=1, until=START + 420)),
        (Trace.SEARCH, Search(attempt=1, until=START + 123)),
    ],
)
def test_a_ticket_that_cannot_be_asked_about_is_as_good_as_none(trace: Trace, then: Todo) -> None:
    life = bought_from(asks=False, trace=trace)
    life.tickets()
    assert todos(life, 3) == (LoseTrack(attempt=1),)
    life.after(AnswerLost(attempt=1), 3)
    assert todos(life, 3) == (then,)


# --- what only the owner before can know


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("trace", [Trace.NONE, Trace.REPLAY])
def test_what_cannot_be_traced_is_not_given_up_while_the_owner_before_may_still_tell(
    trace: Trace, cancelled: bool
) -> None:
    life = bought_from(trace=trace)
    life.opens()
    assert todos(life, 3, former=BEFORE) == (LoseTrack(attempt=1),)
    life.after(AnswerLost(attempt=1), 3)
    if trace is Trace.REPLAY and not cancelled:
        assert todos(life, 3, former=BEFORE) == (Resend(attempt=1, until=START + 420),)
        return
    life.after(CancelAsked(), 3)
    assert todos(life, 17.9, former=BEFORE) == (AwaitFormer(attempt=1, until=START + 18),)
    assert todos(life, 18, former=BEFORE) == (GiveUp(attempt=1, kind=FaultKind.LOST),)


def test_pictures_that_came_with_an_answer_may_be_in_the_hands_of_the_owner_before() -> None:
    life = bought_from(asks=False)
    life.opens()
    life.readies()
    assert todos(life, 17.9, former=BEFORE) == (AwaitFormer(attempt=1, until=START + 18),)
    assert todos(life, 18, former=BEFORE) == (LosePictures(attempt=1, kind=FaultKind.EXPIRED),)


def test_of_an_order_of_our_own_the_owner_before_knows_nothing() -> None:
    life = Life(acceptance(n=2, route=(place(asks=False),)))
    life.loses(images=(0,))
    life.loses(images=(1,))
    found = todos(life, 3, former=BEFORE)
    assert found == (AwaitFormer(attempt=1, until=START + 18), GiveUp(attempt=2, kind=FaultKind.LOST))


def test_an_order_whose_time_is_over_is_not_waited_for_any_longer() -> None:
    life = bought_from(trace=Trace.SEARCH, patience=10.0)
    life.tickets()
    assert todos(life, 11, former=BEFORE) == (GiveUp(attempt=1, kind=FaultKind.OVERDUE),)


# --- the job's own end


def test_a_job_past_its_deadline_is_expired_before_anything_else() -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0,))
    assert todos(life, SECONDS) == (Expire(),)
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert todos(life, SECONDS) == (GiveUp(attempt=1, kind=FaultKind.OVERDUE),)


@pytest.mark.parametrize("rescues", [6, 7, 1_000])
def test_a_job_that_kills_its_owners_is_abandoned(rescues: int) -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0,))
    assert todos(life, 3, 5) == todos(life, 3)
    assert todos(life, 3, rescues) == (Abandon(),)
    life.after(JobAbandoned(fence=FENCE), 3)
    assert todos(life, 3, rescues) == (Poll(attempt=1, ticket="run-1", until=START + 420),), "it was ordered"


def test_nothing_is_left_to_do_once_a_job_is_settled() -> None:
    life = Life()
    life.after(CancelAsked())
    assert todos(life, 10**9, 99) == ()
    assert look(life, 10**9) is None


def test_a_terminal_job_with_an_order_that_runs_is_looked_at_until_it_is_known() -> None:
    life = bought_from(patience=2_000.0)
    life.tickets()
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert todos(life, 1_999) == (Poll(attempt=1, ticket="run-1", until=START + 2_000),)
    assert look(life, 1_997) == 2_000


# --- when to look again


def test_what_can_be_done_now_is_looked_at_now() -> None:
    life = Life(acceptance(n=2))
    life.after(JobConfirmed(), 0.0)
    assert look(life, 0.5) == 0.5
    life.tickets(images=(0,))
    assert look(life, 2) == 2, "the other image waits to be bought"


@pytest.mark.parametrize("trace", [Trace.REPLAY, Trace.SEARCH, Trace.CALLBACK])
def test_a_search_is_repeated_every_five_seconds_and_at_its_end(trace: Trace) -> None:
    life = bought_from(trace=trace, patience=121.0)
    life.loses(seconds=1)
    assert look(life, 10) == 15
    assert look(life, 119) == 121


def test_a_poll_never_sleeps_past_the_end_of_the_order_or_the_job() -> None:
    life = bought_from(patience=SECONDS - 1)
    life.tickets()
    assert look(life, 10) == 15
    assert look(life, SECONDS - 3) == SECONDS - 1
    longer = bought_from(patience=2 * SECONDS)
    longer.tickets()
    assert look(longer, SECONDS - 3) == SECONDS


def test_an_order_that_nobody_wants_any_more_is_not_sent_again() -> None:
    """It might buy what was never bought."""
    life = bought_from(trace=Trace.REPLAY)
    life.loses()
    assert isinstance(todos(life, 3)[0], Resend)
    life.after(CancelAsked(), 3)
    assert todos(life, 3) == (GiveUp(attempt=1, kind=FaultKind.LOST),)
