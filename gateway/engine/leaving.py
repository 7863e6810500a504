"""Leaves jobs to other replicas: those whose sellers this one's configuration lacks, and another's may have."""

import random
from collections.abc import Callable, Sequence

from gateway.engine.desk import Desk
from gateway.events import Trouble
from gateway.jobs.facts import JobConfirmed
from gateway.jobs.job import Place
from gateway.jobs.recovery import AwaitCallback, Buy, Fetch, ForAttempt, Poll, Resend, Search, Todo

# How often every replica looks for jobs, as `engine.RESCUE_SECONDS` says, and how many looks a job is left alone for.
LOOK_SECONDS, MOST_LOOKS = 1.0, 10
SHORTEST_PAUSE = 0.5


class Leaver:
    """One job's. `lose`: tells its owner that it is not his any more."""

    def __init__(self, desk: Desk, lose: Callable[[], None]) -> None:
        self._desk = desk
        self._hands = desk.hands
        self._lose = lose

    def leaves(self, todos: Sequence[Todo]) -> bool:
        """Whether the job is being left, since nothing of it can be done here.

        As long as anything can, what cannot waits: whoever has an order on its way must hear its answer.
        """
        foreign = [self._foreign(todo) for todo in todos]
        if not foreign or not all(foreign):
            return False
        self._desk.start("leave", lambda: self._leave({place.seller for places in foreign for place in places}))
        return True

    def _foreign(self, todo: Todo) -> Sequence[Place]:
        """The places, unknown here, without which this cannot be done at all."""
        job = self._desk.job
        match todo:
            case Buy(places=numbers, retries=retries):
                places = [job.route[number] for number in (*numbers, *(number for number, _ in retries))]
                return [] if any(self._hands.decides_about(place, job.model) for place in places) else places
            case Poll() | Search() | Resend() | AwaitCallback() | Fetch():
                return self._foreign_of(todo)
            case _:
                return []

    def _foreign_of(self, todo: ForAttempt) -> Sequence[Place]:
        place = self._desk.place_of(self._desk.attempt(todo.attempt))
        offer = self._hands.offer_at(place, self._desk.job.model)
        return [] if offer and offer.seller.account.secret else [place]

    async def _leave(self, sellers: set[str]) -> None:
        job = self._desk.job
        times = self._hands.left.again(job.id)
        if not times:
            what = "not in this configuration, so the job is left to a replica that can go on with it"
            self._hands.emit(Trouble(where="engine", what=f"{', '.join(sorted(sellers))}: {what}", job=job.id))
        if not job.is_confirmed:
            # This replica knows that the job was accepted; the next owner does not.
            await self._desk.mailbox.post(JobConfirmed())
        await self._hands.store.snooze(job.id, self._desk.fence, self._pause(times))
        self._lose()

    def _pause(self, times: int) -> float:
        """Longer each time: where nobody else is there, the job must not go round in a circle. Its deadline is obeyed
        in time all the same, by whoever there is.

        We have this job because we just looked, and look again after whole looks: the job is due a little later than
        that, so that whoever else is there looks first. By how much is chance, since some look right after us.
        """
        pause = LOOK_SECONDS * (min(times + 1, MOST_LOOKS) + random.uniform(0.05, 0.45))  # noqa: S311  no secret
        job = self._desk.job
        if job.state.is_terminal or job.overdue:
            return pause
        return min(pause, max(job.deadline - self._hands.now(), SHORTEST_PAUSE))
