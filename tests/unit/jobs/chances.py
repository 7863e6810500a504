"""Acceptances, happenings and sellers by chance: sensible ones, and nonsense."""

from random import Random
from typing import Any

from hypothesis import strategies as st

from gateway.jobs import facts
from gateway.jobs.accepting import Acceptance, OrderCost
from gateway.jobs.facts import Happening
from gateway.jobs.job import Job, Place, Trace
from gateway.jobs.recovery import (
    Abandon,
    AwaitCallback,
    AwaitCaller,
    Buy,
    Expire,
    Fetch,
    ForAttempt,
    GiveUp,
    LoseTrack,
    Poll,
    Resend,
    Search,
    Todo,
    Withdraw,
)
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, PRICE, acceptance, place

PLACES = st.builds(
    place,
    st.sampled_from(["runapi", "runflow-runs", "openai"]),
    images=st.sampled_from([1, 2, 4, 10]),
    price=st.sampled_from([0, 1, PRICE]),
    ceiling=st.sampled_from([0, PRICE, 2 * PRICE]),
    patience=st.sampled_from([0.0, 60.0, 420.0, 100_000.0]),
    asks=st.booleans(),
    trace=st.sampled_from(Trace),
)
ORDER_COSTS = st.builds(OrderCost, st.sampled_from([0, 1, PRICE]), st.sampled_from([0, 1, PRICE]))


def _acceptance(n: int, costed: list[tuple[Place, OrderCost]], bills_by_tokens: bool, **more: Any) -> Acceptance:
    costs = tuple(cost for _, cost in costed) if bills_by_tokens else ()
    return acceptance(n, route=tuple(place for place, _ in costed), order_costs=costs, **more)


ACCEPTANCES = st.builds(
    _acceptance,
    st.integers(1, 5),
    st.lists(st.tuples(PLACES, ORDER_COSTS), min_size=1, max_size=4),
    st.booleans(),
    seconds=st.sampled_from([900.0, 900.0, 900.0, 60.0, 0.0]),
    tries=st.sampled_from([3, 3, 3, 2, 1, 0]),
    reorder=st.booleans(),
    webhook=st.booleans(),
)

CHANCES = st.randoms(use_true_random=True)
# One of the first four attempts mostly: a job by chance seldom has more.
NUMBERS = st.sampled_from([1, 1, 2, 2, 3, 4, 5, 6, 0, -1, 2**63, -(10**30)])
IMAGES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, -1, 10**20]), max_size=6).map(tuple)
COSTS = st.sampled_from([None, None, 0, 1, 99_999, PRICE, -1, -(10**30), 10**30])
WAITS = st.sampled_from([None, None, 0.0, 2.0, 1e6, -1.0, 1e300, float("nan"), float("inf")])
KINDS = st.sampled_from(FaultKind)
FENCES = st.sampled_from([0, 1, FENCE, -1, 2**63])
TEXTS = st.sampled_from(["run-1", "run-2", "", "ß" * 40])
TEXT_LISTS = st.lists(TEXTS, max_size=2).map(tuple)

HAPPENINGS: st.SearchStrategy[Happening] = st.one_of(
    st.builds(facts.TicketLearned, attempt=NUMBERS, ticket=TEXTS),
    st.builds(facts.AnswerLost, attempt=NUMBERS, kind=KINDS),
    st.builds(facts.CallbackSeen, attempt=NUMBERS),
    st.builds(facts.PicturesReady, attempt=NUMBERS, cost=COSTS, links=TEXT_LISTS),
    st.builds(
        facts.PicturesDelivered,
        attempt=NUMBERS,
        images=IMAGES,
        made=st.sampled_from([None, None, 0, 1, 3, -7, 10**20]),
        cost=COSTS,
        missing=KINDS,
        warnings=TEXT_LISTS,
    ),
    st.builds(facts.OrderFailed, attempt=NUMBERS, kind=KINDS, cost=COSTS, retry_after=WAITS),
    st.builds(facts.AttemptOpened, fence=FENCES, place=st.integers(-1, 4) | st.just(2**63), images=IMAGES),
    st.builds(facts.AttemptGivenUp, fence=FENCES, attempt=NUMBERS, kind=KINDS),
    st.builds(facts.JobConfirmed),
    st.builds(facts.PartGivenUp, fence=FENCES, images=IMAGES, kind=st.none() | KINDS, retry_after=WAITS),
)
# What ends a job at once is left for last, so that most jobs live long enough to be interesting.
ENDINGS: st.SearchStrategy[Happening] = st.one_of(
    st.builds(facts.CancelAsked),
    st.builds(facts.JobExpired, fence=FENCES),
    st.builds(facts.JobWithdrawn, fence=FENCES),
    st.builds(facts.JobAbandoned, fence=FENCES),
)


def waits(todo: Todo) -> bool:
    """Whether only the seller can bring it further, or the caller."""
    return isinstance(todo, AwaitCaller | Poll | Search | AwaitCallback | Resend | Fetch)


def obeyed(job: Job, todo: Todo, seller: Random, speaks: bool = True) -> Happening | None:
    """What an owner makes of a todo, with a seller that answers by chance; None where it does not answer."""
    match todo:
        case Buy():
            return _bought(job, todo, seller)
        case GiveUp(attempt=attempt, kind=kind):
            return facts.AttemptGivenUp(fence=FENCE, attempt=attempt, kind=kind)
        case AwaitCaller():
            return facts.JobConfirmed() if seller.random() < 0.5 else None
        case Withdraw():
            return facts.JobWithdrawn(fence=FENCE)
        case Expire():
            return facts.JobExpired(fence=FENCE)
        case Abandon():
            return facts.JobAbandoned(fence=FENCE)
        case ForAttempt(attempt=attempt):
            answer = answered(job, attempt, seller) if speaks and seller.random() < 0.5 else None
            return answer or (facts.AnswerLost(attempt=attempt) if isinstance(todo, LoseTrack) else None)
    raise AssertionError(todo)


def _bought(job: Job, buy: Buy, seller: Random) -> Happening:
    if not buy.places and buy.retries and seller.random() < 0.7:
        where = buy.retries[0][0]
        return facts.AttemptOpened(fence=FENCE, place=where, images=buy.images[: job.route[where].images])
    if not buy.places or job.tries < 1:
        some = seller.randrange(len(buy.images)) + 1
        return facts.PartGivenUp(fence=FENCE, images=buy.images[:some])
    where = seller.choice(buy.places)
    return facts.AttemptOpened(fence=FENCE, place=where, images=buy.images[: job.route[where].images])


def answered(job: Job, attempt: int, seller: Random) -> Happening:
    """Something that the seller, or whoever asks it, may say of this order at any time."""
    ordered = job.attempts[attempt - 1].images
    some = tuple(image for image in ordered if seller.random() < 0.7)
    return seller.choice(
        (
            facts.TicketLearned(attempt=attempt, ticket=f"run-{attempt}"),
            facts.CallbackSeen(attempt=attempt),
            facts.PicturesReady(attempt=attempt, links=seller.choice(((), ("https://a.example/1",)))),
            facts.PicturesDelivered(attempt=attempt, images=ordered),
            facts.PicturesDelivered(attempt=attempt, images=some, made=len(some)),
            facts.PicturesReady(attempt=attempt, cost=seller.choice((0, 99_999))),
            facts.OrderFailed(attempt=attempt, kind=seller.choice(list(FaultKind))),
            facts.OrderFailed(attempt=attempt, kind=FaultKind.RATE_LIMITED, retry_after=0.0),
            facts.OrderFailed(attempt=attempt, kind=seller.choice(list(FaultKind)), cost=seller.choice((0, 77_777))),
            facts.AnswerLost(attempt=attempt),
        )
    )
