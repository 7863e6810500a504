"""One job's owner: the only task that decides anything about it, until it is settled or belongs to somebody else.

Its other tasks buy, ask and fetch; they tell it what happened, it commits that, and then sees what there is to do.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from gateway.engine.buying import Buyer
from gateway.engine.confirmation import Confirmation
from gateway.engine.desk import Desk
from gateway.engine.following import Follower
from gateway.engine.hands import Hands
from gateway.engine.leaving import Leaver
from gateway.engine.mailbox import Letter
from gateway.engine.telling import tell_of
from gateway.events import Trouble
from gateway.jobs.applying import Ignored, after
from gateway.jobs.commit import Commit, difference
from gateway.jobs.facts import (
    AttemptGivenUp,
    Decision,
    JobAbandoned,
    JobExpired,
    JobWithdrawn,
    PicturesDelivered,
)
from gateway.jobs.job import Job
from gateway.jobs.recovery import (
    RESCUES_WITHOUT_PROGRESS,
    Abandon,
    AwaitCaller,
    Buy,
    Expire,
    ForAttempt,
    Former,
    GiveUp,
    LosePictures,
    Todo,
    Withdraw,
    recover,
)
from gateway.store.base import Applied, Fenced, Outcome, Stale, StoreError, StoreUnavailable

Answered = TypeVar("Answered")
LONGEST_NAP = 30.0
STORE_PAUSE = 0.5
# How long our own commits may take to be known to ourselves, before a change is looked at as somebody else's.
SETTLE_SECONDS = 0.05


class Owner:
    """`fence` proves that the job is ours. `rescues`: how many owners it has had since anything came of it; 0 where it
    was accepted here. `former_until`: until when it awaits what the owner before it may have to say, of orders that
    nothing else shows.
    """

    def __init__(self, hands: Hands, job: Job, fence: int, rescues: int = 0, former_until: float = 0.0) -> None:
        self.hands = hands
        self.desk = Desk(hands, job, fence)
        self._rescues = rescues
        self._former = Former(until=former_until, attempts=len(job.attempts))
        self._saved_elsewhere: Job | None = None
        self.is_accepted_here = rescues == 0
        self.confirmation = Confirmation(self.desk)
        self._is_ours = True
        self.follower = Follower(self.desk)
        self.buyer = Buyer(self.desk, self.follower)
        self._leaver = Leaver(self.desk, self.lose)

    @property
    def job(self) -> Job:
        return self.desk.job

    @property
    def fence(self) -> int:
        return self.desk.fence

    @property
    def is_ours(self) -> bool:
        """False once another owner has the job, as far as this process knows."""
        return self._is_ours

    # --- its life

    async def run(self) -> None:
        try:
            if 0 < self._rescues < RESCUES_WITHOUT_PROGRESS:
                self.follower.take_over()
            while (self._is_ours and not self.job.is_settled) or self._must_hear_more():
                if self._is_ours:
                    self._start_what_is_to_do()
                letters = await self.desk.mailbox.letters(self._nap())
                self._take_in_news()
                await self._commit(letters)
        finally:
            self.desk.stop()
            await self.desk.ended()
            self.desk.mailbox.refuse_all()
            self.desk.has_got_on.set()
            self.desk.has_saved.set()

    def lose(self) -> None:
        """Somebody else owns it now. What we ordered is still heard to the end: its answer is known to nobody else."""
        self._is_ours = False
        self.desk.stop(but=self.buyer.ordering)
        self.desk.mailbox.wake()

    def keep(self, fence: int) -> None:
        """It has been ours all along, and is so again by another fence: our lease had ended, and nobody else was there.

        Whatever we are doing goes on; but time may have passed without us.
        """
        self.desk.fence = fence
        self._is_ours = True
        self.follower.take_over()
        self.desk.mailbox.wake()

    def _must_hear_more(self) -> bool:
        return self.desk.is_busy_with(self.buyer.ordering)

    def _nap(self) -> float:
        """Until the deadline has to be obeyed; everything else announces itself."""
        if self.job.state.is_terminal or self.job.overdue:
            return LONGEST_NAP
        left = self.job.deadline - self.hands.now()
        return min(max(left, 0.05), LONGEST_NAP)

    # --- what there is to do

    def _start_what_is_to_do(self) -> None:
        todos = recover(self.job, self.hands.now(), self._rescues, self._former, self.is_accepted_here)
        if self._leaver.leaves(todos):
            return
        if self.hands.callbacks is not None or self._former.until:
            self.desk.start("others", self._hear_others)
        for number in self.follower.unasked:
            self.desk.start(("attempt", number), partial(self.follower.ask_once, number))
        for todo in todos:
            if not self._is_too_early_for(todo):
                self._start(todo)

    def _start(self, todo: Todo) -> None:
        match todo:
            case Buy(images=images):
                self.buyer.start(images, todo)
            case GiveUp(attempt=attempt):
                self.desk.start(("give up", attempt), partial(self._give_up, todo))
            case ForAttempt(attempt=attempt):
                self.desk.start(("attempt", attempt), partial(self.follower.follow, todo))
            case AwaitCaller(until=until):
                self.desk.start(AwaitCaller, partial(self.confirmation.await_caller, until))
            case _:
                self.desk.start(type(todo), partial(self._obey, todo))

    def _is_too_early_for(self, todo: Todo) -> bool:
        """Nothing is over before it was asked about, and no picture is lost while one of our tasks has it in hand."""
        if isinstance(todo, LosePictures) and self.desk.is_busy_with({("attempt", todo.attempt)}):
            return True
        return bool(self.follower.unasked) and isinstance(todo, Expire | GiveUp)

    async def _give_up(self, todo: GiveUp) -> None:
        """Also where somebody is still busy with it: that has taken long enough."""
        given_up = AttemptGivenUp(fence=self.fence, attempt=todo.attempt, kind=todo.kind)
        if await self.desk.mailbox.post(given_up):
            self.desk.stop_one(("attempt", todo.attempt))

    async def _obey(self, todo: Todo) -> None:
        if isinstance(todo, Expire):
            await self.desk.mailbox.post(JobExpired(fence=self.fence))
        elif isinstance(todo, Abandon):
            what = f"{self._rescues} owners in a row got nowhere with it: nothing more is bought for this job"
            self.hands.emit(Trouble(where="engine", what=what, job=self.job.id))
            await self.desk.mailbox.post(JobAbandoned(fence=self.fence))
        elif isinstance(todo, Withdraw):
            await self.desk.mailbox.post(JobWithdrawn(fence=self.fence))

    async def _hear_others(self) -> None:
        """Follows changes that other replicas save: callbacks that they received, and results of the owner before."""
        with self.hands.store.watch(self.job.id) as watch:
            while True:
                await watch.changed(LONGEST_NAP)
                await asyncio.sleep(SETTLE_SECONDS)
                with contextlib.suppress(StoreUnavailable):
                    saved = await self.hands.store.load(self.job.id)
                    if saved and saved.version > self.job.version:
                        self._saved_elsewhere = saved
                        self.desk.mailbox.wake()

    def _take_in_news(self) -> None:
        """Adopts changes saved by other replicas, while no commit of this owner is on its way. The order of an attempt
        that changed is asked about at once."""
        saved, self._saved_elsewhere = self._saved_elsewhere, None
        if saved is None or saved.version <= self.job.version:
            return
        before = self.job
        self.desk.becomes(saved)
        for attempt in saved.attempts:
            if attempt != before.attempt(attempt.number):
                self.follower.nudge(attempt.number)

    # --- committing

    async def _commit(self, letters: list[Letter]) -> None:
        """Until it is saved, or cannot be. What was learned is kept in mind while the store cannot write."""
        try:
            while letters:
                job, heard = self._after(letters)
                if not any(heard):
                    break
                commit = self._commit_of(job, [letter for letter, was in zip(letters, heard, strict=True) if was])
                outcome = await self._in_the_end(partial(self.hands.store.commit, commit))
                if isinstance(outcome, Applied):
                    return self._applied(commit, letters, heard)
                letters = await self._not_applied(commit, outcome, letters)
        finally:
            # Also where the owner ends meanwhile: its senders would wait without end.
            _answer(letters, [False] * len(letters))

    async def _in_the_end(self, ask: Callable[[], Awaitable[Answered]]) -> Answered:
        """Until the store answers. A commit whose answer is lost is repeated as it was: it recognises itself, and any
        other would take what it did for somebody else's doing."""
        while True:
            try:
                return await ask()
            except StoreUnavailable as error:
                self.hands.emit(Trouble(where="store", what=str(error), job=self.job.id))
                await asyncio.sleep(STORE_PAUSE)

    def _after(self, letters: list[Letter]) -> tuple[Job, list[bool]]:
        """What all of it makes of the job, and whether each letter changed anything."""
        job, now, heard = self.job, self.hands.now(), []
        for letter in letters:
            before = job
            for happening in letter.happenings:
                changed = after(job, happening, now)
                job = job if isinstance(changed, Ignored) else changed
            heard.append(job is not before)
        return job, heard

    def _commit_of(self, job: Job, letters: list[Letter]) -> Commit:
        decided = any(isinstance(one, Decision) for letter in letters for one in letter.happenings)
        job = replace(job, version=self.job.version + 1)
        commit = difference(self.job, job, self.hands.now(), self.fence if decided else None)
        kept = [letter for letter in letters if not _is_too_late(letter, job)]
        documents = {name: document for letter in kept for name, document in letter.documents.items()}
        dropped = tuple(name for letter in letters for name in letter.dropped)
        return replace(commit, documents=documents, dropped=dropped)

    def _applied(self, commit: Commit, letters: list[Letter], heard: list[bool]) -> None:
        before = self.job
        self.desk.becomes(commit.job)
        self._rescues = 0
        self.desk.has_got_on.set()
        self.desk.has_saved.set()
        tell_of(self.hands, before, commit)
        _answer(letters, heard)

    async def _not_applied(self, commit: Commit, outcome: Outcome, letters: list[Letter]) -> list[Letter]:
        """What is left to be said about the job as others have made it meanwhile. Facts outlast our owning it."""
        if isinstance(outcome, Fenced) and commit.fence == self.fence:
            self.lose()
        elif isinstance(outcome, Stale | Fenced) and (
            current := await self._in_the_end(partial(self.hands.store.load, self.job.id))
        ):
            self.desk.becomes(current)
        else:
            self.lose()
            raise StoreError(f"{self.job.id} is gone")
        if self._is_ours:
            return letters
        decided = [letter for letter in letters if any(isinstance(one, Decision) for one in letter.happenings)]
        _answer(decided, [False] * len(decided))
        return [letter for letter in letters if letter not in decided]


def _is_too_late(letter: Letter, job: Job) -> bool:
    """Whether its pictures are only booked: the job does not list them, so nothing is kept beside it."""
    late = (one for one in letter.happenings if isinstance(one, PicturesDelivered))
    return any((attempt := job.attempt(one.attempt)) is None or not attempt.delivered for one in late)


def _answer(letters: list[Letter], heard: list[bool]) -> None:
    for letter, was in zip(letters, heard, strict=True):
        if not letter.saved.done():
            letter.saved.set_result(was)
