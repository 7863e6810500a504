"""A job under everything that can happen to it, in any order: sensible, late, twice, outdated, and nonsense."""

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.jobs.accepting import Acceptance
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import apply
from gateway.jobs.facts import Happening
from gateway.jobs.job import Job
from gateway.jobs.recovery import RESCUES_WITHOUT_PROGRESS, Buy, next_look, recover
from tests.unit.jobs.chances import ACCEPTANCES, CHANCES, ENDINGS, HAPPENINGS, answered, obeyed
from tests.unit.jobs.living import START, Life

PAUSES = st.sampled_from([0.0, 0.5, 1.0, 5.0, 20.0, -1.0])
AN_OLD_JOB = 20  # happenings


# With the three stores' own machines, each of which makes 5,000, these are more than 20,000.
LEAST_STEPS = 7_000
STEPS: list[int] = []


class AnyLife(RuleBasedStateMachine):
    """`Life.after` holds every commit against all that came before; here only what happens is chosen."""

    life: Life

    @initialize(asked=ACCEPTANCES)
    def is_accepted(self, asked: Acceptance) -> None:
        self.life = Life(asked)
        self.seconds = 0.0
        self.views: list[Job] = [self.life.job]
        self.past: list[Happening] = []

    def happens(self, happening: Happening) -> None:
        STEPS.append(1)
        self.past.append(happening)
        before = self.life.job
        if isinstance(apply(before, happening, START + self.seconds), Ignored):
            assert self.life.ignores(happening, self.seconds)
            return
        self.life.after(happening, self.seconds)
        assert self.life.job != before
        self.views.append(self.life.job)

    @rule(pause=PAUSES)
    def a_little_time_passes(self, pause: float) -> None:
        """Backwards now and then: clocks differ between processes."""
        self.seconds = max(0.0, self.seconds + pause)

    @precondition(lambda self: len(self.past) > AN_OLD_JOB)
    @rule(pause=st.sampled_from([130.0, 500.0, 1_000.0, 90_000.0]))
    def much_time_passes(self, pause: float) -> None:
        self.seconds += pause

    @rule(happening=HAPPENINGS)
    def anything(self, happening: Happening) -> None:
        self.happens(happening)

    @precondition(lambda self: len(self.past) > AN_OLD_JOB)
    @rule(happening=ENDINGS)
    def an_ending(self, happening: Happening) -> None:
        self.happens(happening)

    @precondition(lambda self: self.past)
    @rule(back=st.integers(0, 5))
    def the_same_again(self, back: int) -> None:
        self.happens(self.past[max(0, len(self.past) - 1 - back)])

    @rule(chance=CHANCES)
    def what_has_to_be_done(self, chance: Random) -> None:
        self.obeys(self.life.job, chance)

    @rule(chance=CHANCES, back=st.integers(1, 8))
    def what_had_to_be_done_by_an_outdated_view(self, chance: Random, back: int) -> None:
        self.obeys(self.views[max(0, len(self.views) - 1 - back)], chance)

    @precondition(lambda self: self.life.job.attempts)
    @rule(chance=CHANCES)
    def a_seller_speaks(self, chance: Random) -> None:
        """Of an order that runs, or ended long ago."""
        self.happens(answered(self.life.job, chance.randint(1, len(self.life.job.attempts)), chance))

    @rule(chance=CHANCES)
    def images_are_bought(self, chance: Random) -> None:
        for todo in recover(self.life.job, START + self.seconds, is_accepted_here=True):
            if isinstance(todo, Buy) and (happening := obeyed(self.life.job, todo, chance)):
                self.happens(happening)

    def obeys(self, view: Job, chance: Random) -> None:
        todos = recover(view, START + self.seconds)
        if todos and (happening := obeyed(view, chance.choice(todos), chance)):
            self.happens(happening)

    @invariant()
    def it_is_known_what_has_to_be_done_and_when(self) -> None:
        """At this very moment, not only when something was saved last."""
        if not hasattr(self, "life"):
            return
        job, now = self.life.job, START + self.seconds
        look = next_look(job, now)
        assert (look is None) == job.is_settled == (not recover(job, now))
        assert look is None or look >= now
        assert job.is_settled or recover(job, now, RESCUES_WITHOUT_PROGRESS)


ENOUGH = settings(
    max_examples=450,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_any_life() -> None:
    STEPS.clear()
    run_state_machine_as_test(AnyLife, settings=ENOUGH)
    assert len(STEPS) >= LEAST_STEPS
