"""A job whose client may have got an error instead of it is bought only if a client counts on it."""

import pytest

from gateway.jobs.commit import SOFT_KEY_SECONDS, IdempotencyRecord
from gateway.jobs.facts import AttemptOpened, CancelAsked, JobConfirmed, JobExpired, JobWithdrawn, PartGivenUp
from gateway.jobs.failure import may_be_asked_again, may_have_been_bought
from gateway.jobs.job import CONFIRM_SECONDS, State
from gateway.jobs.recovery import RESCUES_WITHOUT_PROGRESS, AwaitCaller, Buy, Expire, Withdraw, next_look, recover
from tests.unit.jobs.living import FENCE, SECONDS, START, Life, acceptance

WITHDRAWN = JobWithdrawn(fence=FENCE)


@pytest.mark.parametrize("rescues", [0, 1, RESCUES_WITHOUT_PROGRESS])
def test_others_wait_for_its_caller_and_then_withdraw_it(rescues: int) -> None:
    job = Life().job
    until = START + CONFIRM_SECONDS
    assert recover(job, START, rescues) == recover(job, until - 0.1, rescues) == (AwaitCaller(until=until),)
    assert recover(job, until, rescues) == (Withdraw(),)
    assert next_look(job, START) == until


def test_its_owner_buys_it_at_once_and_as_long_as_it_may() -> None:
    for seconds in (0.0, CONFIRM_SECONDS + 1):
        assert isinstance(recover(Life().job, START + seconds, is_accepted_here=True)[0], Buy)


@pytest.mark.parametrize("seconds", [0.0, CONFIRM_SECONDS + 1])
def test_everybody_buys_what_is_confirmed(seconds: float) -> None:
    life = Life()
    life.after(JobConfirmed(), seconds)
    assert isinstance(recover(life.job, START + seconds)[0], Buy)
    assert life.ignores(JobConfirmed(), seconds)
    assert life.ignores(WITHDRAWN, SECONDS)
    assert recover(life.job, START + SECONDS) == (Expire(),)


def test_an_attempt_confirms_it() -> None:
    life = Life()
    life.opens()
    assert life.job.is_confirmed
    assert life.ignores(JobConfirmed())
    assert life.ignores(WITHDRAWN, CONFIRM_SECONDS)


def test_it_is_not_withdrawn_before_its_time() -> None:
    life = Life()
    assert life.ignores(WITHDRAWN, CONFIRM_SECONDS - 0.1)


def test_a_deadline_that_comes_sooner_ends_the_waiting() -> None:
    life = Life(acceptance(seconds=10.0))
    assert recover(life.job, START + 10.0) == (Withdraw(),)
    life.after(WITHDRAWN, 10.0)
    assert life.job.state is State.CANCELLED


@pytest.mark.parametrize("soft", [True, False])
def test_withdrawn_it_gives_back_its_money_and_its_key(soft: bool) -> None:
    life = Life(acceptance(n=2, idempotency=IdempotencyRecord(key="k", fingerprint="f", soft=soft)))
    commit = life.after(WITHDRAWN, CONFIRM_SECONDS)
    assert (life.job.state, life.job.is_settled, life.job.hold) == (State.CANCELLED, True, 0)
    assert (commit.linger, commit.is_refused) == (SOFT_KEY_SECONDS if soft else 0.0, True)
    assert may_be_asked_again(life.job)
    assert not may_have_been_bought(life.job)
    assert life.ignores(JobConfirmed(), CONFIRM_SECONDS)
    assert life.ignores(AttemptOpened(fence=FENCE, place=0, images=(0,)), CONFIRM_SECONDS)


def test_a_callers_key_outlives_any_other_end() -> None:
    record = IdempotencyRecord(key="k", fingerprint="f")
    for ending in (CancelAsked(), PartGivenUp(fence=FENCE, images=(0,)), JobExpired(fence=FENCE)):
        life = Life(acceptance(idempotency=record))
        assert life.after(ending, SECONDS if isinstance(ending, JobExpired) else 1.0).linger is None
