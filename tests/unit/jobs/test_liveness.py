"""Whoever does what `recover` says brings every job to its end, whatever the sellers do or leave undone."""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.jobs.accepting import Acceptance
from gateway.jobs.commit import Commit, apply
from gateway.jobs.facts import AnswerLost, CancelAsked, Decision, Happening, JobConfirmed
from gateway.jobs.recovery import PICTURES_LAST_SECONDS, RECONCILE_SECONDS, RESCUES_WITHOUT_PROGRESS, next_look, recover
from tests.unit.jobs.chances import ACCEPTANCES, CHANCES, obeyed, waits
from tests.unit.jobs.living import START, Life

PAUSES = (0.0, 1.0, 30.0, 600.0, 7_200.0)
# Each round either changes the job, which can happen only so often, or lets time pass.
MOST_ROUNDS = 600


def until_settled(life: Life, seller: Random, speaks: bool, rescues: int = 0) -> float:
    """The seconds after which nothing is open any more. What waits for nobody must never be in vain."""
    seconds = 0.0
    for _ in range(MOST_ROUNDS):
        job, now = life.job, START + seconds
        if job.is_settled:
            return seconds
        todos = recover(job, now, rescues)
        todo = next((one for one in todos if not waits(one)), None) or seller.choice(todos)
        happening = obeyed(job, todo, seller, speaks)
        if isinstance(happening, Decision | AnswerLost) and not waits(todo):
            life.after(happening, seconds)
        elif happening is not None:
            if_it_is_news(life, happening, seconds)
        if waits(todo):
            look = next_look(life.job, now)
            seconds = max(seconds, (look or now) - START) + seller.choice(PAUSES)
    raise AssertionError(f"not settled after {MOST_ROUNDS} rounds: {life.job}")


def if_it_is_news(life: Life, happening: Happening, seconds: float) -> None:
    if isinstance(apply(life.job, happening, START + seconds), Commit):
        life.after(happening, seconds)


def some_steps(life: Life, seller: Random, steps: int) -> None:
    for _ in range(steps):
        for todo in recover(life.job, START)[:1]:
            if happening := obeyed(life.job, todo, seller):
                if_it_is_news(life, happening, 0.0)


def latest(asked: Acceptance) -> float:
    """The last purchase just before the deadline, its pictures waited for as long as anybody keeps them."""
    slowest = max(PICTURES_LAST_SECONDS, *(place.patience for place in asked.route))
    return asked.seconds + slowest + RECONCILE_SECONDS + 2 * max(PAUSES)


def fairly(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@fairly(600)
@given(asked=ACCEPTANCES, seller=CHANCES, speaks=st.booleans())
def test_every_job_is_settled_in_time(asked: Acceptance, seller: Random, speaks: bool) -> None:
    life = Life(asked)
    assert until_settled(life, seller, speaks) <= latest(asked)


@fairly(50)
@given(asked=ACCEPTANCES, seller=CHANCES, cancelled=st.integers(0, 12))
def test_a_cancelled_job_is_settled_in_time(asked: Acceptance, seller: Random, cancelled: int) -> None:
    life = Life(asked)
    some_steps(life, seller, cancelled)
    if_it_is_news(life, CancelAsked(), 0.0)
    assert until_settled(life, seller, speaks=True) <= latest(asked)
    assert life.job.cancel_asked or life.job.finished == START


@fairly(50)
@given(asked=ACCEPTANCES, seller=CHANCES, steps=st.integers(0, 12))
def test_a_job_whose_owners_die_buys_nothing_more_and_is_settled_in_time(
    asked: Acceptance, seller: Random, steps: int
) -> None:
    life = Life(asked)
    some_steps(life, seller, steps)
    if_it_is_news(life, JobConfirmed(), 0.0)
    ordered = len(life.job.attempts)
    assert until_settled(life, seller, speaks=False, rescues=RESCUES_WITHOUT_PROGRESS) <= latest(asked)
    assert len(life.job.attempts) == ordered
