"""Follows orders that were sent: asks about those with a ticket, looks for those without, fetches what is ready."""

import asyncio
import contextlib
from collections import defaultdict
from itertools import count
from math import inf

from msgspec.structs import replace

from gateway.catalogue import Offer
from gateway.engine.asking import ask, ask_about, is_its_ticket, order_again
from gateway.engine.delivering import Deliverer, cost_of
from gateway.engine.desk import Desk
from gateway.engine.pace import Pace
from gateway.engine.records import call_from, order_name
from gateway.jobs.facts import AnswerLost, AttemptGivenUp, CallbackSeen, Happening, OrderFailed, TicketLearned
from gateway.jobs.job import Attempt, reference_of
from gateway.jobs.recovery import (
    SEARCH_SECONDS,
    AwaitCallback,
    AwaitFormer,
    Fetch,
    ForAttempt,
    LoseTrack,
    Poll,
    Resend,
    Search,
    deadline_of,
    recover,
)
from providers.faults import Bought, FaultKind, Patience
from providers.orders import Link, Reference
from providers.progress import Accepted, Failed, Listed, Progress, Ready, Unanswered, Working

GRACE_SECONDS = 60.0
MOST_DOUBTS = 3
RESEND_PAUSE, LONGEST_RESEND_PAUSE = 1.0, 60.0
NUDGE_SECONDS = 1.0


class Follower:
    """One job's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hands = desk.hands
        self._nudges: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        # When a callback last cut a pause short.
        self._nudged: defaultdict[int, float] = defaultdict(lambda: -inf)
        self._told: dict[int, str] = {}
        self.deliverer = Deliverer(desk)
        self.unasked: set[int] = set()

    def called(self, number: int, ticket: str | None) -> None:
        """The seller called back: ask now. If it names a ticket before we know one, whoever may miss it hears of it."""
        attempt = self._desk.job.attempt(number)
        if attempt is None or not attempt.is_open:
            return
        if attempt.ticket is None and ticket is not None:
            self._told[number] = ticket
        self.nudge(number)

    def nudge(self, number: int) -> None:
        self._nudges[number].set()

    async def follow(self, todo: ForAttempt) -> None:
        if isinstance(todo, LoseTrack):
            await self._desk.mailbox.post(AnswerLost(attempt=todo.attempt))
        elif isinstance(todo, AwaitFormer):
            await self._pause(todo.attempt, todo.until - self._hands.now())
        else:
            await self._follow_at_seller(todo)

    async def _follow_at_seller(self, todo: ForAttempt) -> None:
        attempt = self._desk.attempt(todo.attempt)
        offer = self._offer_of(attempt)
        if offer is None:
            # A replica whose configuration has the seller can go on with it.
            await asyncio.sleep(SEARCH_SECONDS)
        elif isinstance(todo, Poll):
            await self._poll(attempt, offer, todo)
        elif isinstance(todo, Search):
            await self._search(attempt, offer, todo)
        elif isinstance(todo, Resend):
            await self._resend(attempt, offer, todo)
        elif isinstance(todo, AwaitCallback):
            await self._await_callback(attempt, offer, todo)
        elif isinstance(todo, Fetch):
            ready = Ready(pictures=tuple(Link(link) for link in todo.links), cost=attempt.cost)
            await self.deliverer.deliver(todo.attempt, ready, offer)

    async def go_on(self, attempt: int) -> None:
        """The same task goes on with what there is to do for its attempt, while it holds the account's slot."""
        while todo := self._todo_for(attempt):
            if not isinstance(todo, Poll | Search | Resend | AwaitCallback | Fetch):
                return
            await self.follow(todo)

    def _offer_of(self, attempt: Attempt) -> Offer | None:
        """Whom to ask about its order, as he is configured by now: his key may be another. None if nobody here can."""
        offer = self._hands.offer_at(self._desk.place_of(attempt), self._desk.job.model)
        return offer if offer and offer.seller.account.secret else None

    def _todo_for(self, attempt: int) -> ForAttempt | None:
        todos = recover(self._desk.job, self._hands.now())
        return next((one for one in todos if isinstance(one, ForAttempt) and one.attempt == attempt), None)

    # --- orders with a ticket

    def take_over(self) -> None:
        """Time may have passed with nobody there: what is done by now must not be given up for being late."""
        job = self._desk.job
        self.unasked = {one.number for one in job.attempts if one.is_open and job.can_ask_about(one)}
        for number in self.unasked:
            self.nudge(number)

    async def ask_once(self, number: int) -> None:
        attempt = self._desk.attempt(number)
        offer = self._offer_of(attempt)
        try:
            if offer is not None and attempt.is_open:
                await self._concludes(attempt, offer, await self._heard_in_the_end(attempt, offer))
        finally:
            self._note_question(number)

    def _note_question(self, number: int) -> None:
        self.unasked.discard(number)
        if not self.unasked:
            self._desk.has_got_on.set()

    async def _heard_in_the_end(self, attempt: Attempt, offer: Offer) -> Progress:
        """Nothing is asked again after this, so a question that was not answered is not yet an answer."""
        for _ in range(MOST_DOUBTS - 1):
            progress = await self._ask(attempt, offer)
            if not isinstance(progress, Unanswered):
                return progress
            await self._pause(attempt.number, RESEND_PAUSE)
        return await self._ask(attempt, offer)

    async def _poll(self, attempt: Attempt, offer: Offer, todo: Poll) -> None:
        """Until it has ended, or until it may be waited for no longer."""
        cell = self._desk.place_of(attempt).cell
        pace = Pace(offer.seconds[cell.quality].p50, self._hands.now() - attempt.opened)
        doubts, wish = Doubts(), None
        while True:
            left = todo.until - self._hands.now()
            await self._pause(attempt.number, max(0.0, min(pace.next_pause(wish), left)))
            offer = self._offer_of(attempt) or offer
            progress = await self._ask(attempt, offer)
            has_ended = await self._concludes(attempt, offer, progress)
            self._note_question(attempt.number)
            if has_ended:
                return
            wish = _wish(progress)
            if kind := doubts.end(progress, self._hands.now()):
                given_up = AttemptGivenUp(fence=self._desk.fence, attempt=attempt.number, kind=kind)
                if await self._tell(given_up):
                    return
            if self._hands.now() >= todo.until:
                return

    async def _ask(self, attempt: Attempt, offer: Offer) -> Progress:
        return await ask_about(self._hands, self._desk.job, attempt, offer)

    async def _concludes(self, attempt: Attempt, offer: Offer, progress: Progress) -> bool:
        """Whether this was the order's end."""
        if isinstance(progress, Ready):
            return await self.deliverer.deliver(attempt.number, progress, offer)
        if not isinstance(progress, Failed):
            return False
        failed = OrderFailed(attempt=attempt.number, kind=progress.fault.kind, cost=cost_of(progress, offer))
        # Not if its pictures exist: then it is asked on, at its pace.
        return await self._tell(failed) or not self._desk.attempt(attempt.number).is_open

    # --- orders whose answer was lost

    async def _search(self, attempt: Attempt, offer: Offer, todo: Search) -> None:
        reference = reference_of(self._desk.job.id, attempt.number)
        for asked in count():
            offer = self._offer_of(attempt) or offer
            if await self._is_traced(attempt, offer):
                return
            progress = await ask(self._hands, offer.seller.adapter.find, Reference(reference, asked), offer)
            found = progress.orders if isinstance(progress, Listed) else ()
            mine = next((one.id for one in found if one.reference == reference and one.id), None)
            if mine is not None:
                return await self._found(attempt, mine)
            await self._pause(attempt.number, min(SEARCH_SECONDS, max(0.0, todo.until - self._hands.now())))
            if self._hands.now() >= todo.until:
                return

    async def _await_callback(self, attempt: Attempt, offer: Offer, todo: AwaitCallback) -> None:
        while not await self._is_traced(attempt, offer) and self._hands.now() < todo.until:
            await self._pause(attempt.number, min(SEARCH_SECONDS, max(0.05, todo.until - self._hands.now())))
            offer = self._offer_of(attempt) or offer

    async def _is_traced(self, attempt: Attempt, offer: Offer) -> bool:
        """Whether its ticket is known by now. One that a callback names is ours only if the seller says so."""
        number = attempt.number
        if (ticket := self._told.get(number)) is not None:
            await self._tell(CallbackSeen(attempt=number))
            is_ours = await is_its_ticket(self._hands, self._desk.job, attempt, offer, ticket)
            if is_ours is not None:
                self._told.pop(number, None)
            if is_ours:
                await self._found(attempt, ticket)
        if self._desk.attempt(number).ticket is None:
            return False
        # Whoever called has something to say.
        self.nudge(number)
        return True

    async def _resend(self, attempt: Attempt, offer: Offer, todo: Resend) -> None:
        """The same bytes with the same key. What refuses them says nothing of those that were sent before."""
        name = order_name(attempt.number)
        saved = (await self._hands.store.documents(self._desk.job.id, name)).get(name)
        pause = RESEND_PAUSE
        while saved is not None and self._hands.now() < todo.until:
            offer = self._offer_of(attempt) or offer
            progress = await order_again(self._hands, call_from(saved), offer, len(attempt.images))
            if isinstance(progress, Accepted | Working) and progress.id:
                return await self._found(attempt, progress.id)
            is_end = not isinstance(progress, Failed) or progress.fault.verdict.when_asking is Patience.BELIEVE
            if is_end and await self._concludes(attempt, offer, progress):
                return
            await self._pause(attempt.number, min(pause, max(0.0, todo.until - self._hands.now())))
            pause = min(pause * 2, LONGEST_RESEND_PAUSE)
        if saved is None:
            await self._tell(AttemptGivenUp(fence=self._desk.fence, attempt=attempt.number, kind=FaultKind.LOST))

    async def _found(self, attempt: Attempt, ticket: str) -> None:
        """Its time may be over by now: it is asked about once all the same before it is given up."""
        if self._hands.now() >= deadline_of(self._desk.job, replace(attempt, ticket=ticket, lost=None)):
            self.unasked.add(attempt.number)
        await self._tell(TicketLearned(attempt=attempt.number, ticket=ticket))

    # --- what they share

    async def _tell(self, happening: Happening) -> bool:
        """Whether it changed anything."""
        return await self._desk.mailbox.post(happening)

    async def _pause(self, attempt: int, seconds: float) -> None:
        """Cut short by a callback, but not more often than once a second: what is asked then answers all of them."""
        nudged, clock = self._nudges[attempt], self._hands.clock
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await nudged.wait()
                await asyncio.sleep(self._nudged[attempt] + NUDGE_SECONDS - clock())
                self._nudged[attempt] = clock()
        # The pause ends here, and the next question follows.
        nudged.clear()


class Doubts:
    """How often in a row a question about an order was answered by nothing that can be believed."""

    def __init__(self) -> None:
        self._times = 0
        self._missing_since: float | None = None

    def end(self, progress: Progress, now: float) -> FaultKind | None:
        """What to give the order up for, if this was once too often."""
        if not isinstance(progress, Unanswered):
            self._times, self._missing_since = 0, None
            return None
        kind = progress.fault.kind
        match progress.fault.verdict.when_asking:
            case Patience.THREE_TIMES:
                self._times += 1
                return kind if self._times >= MOST_DOUBTS else None
            case Patience.GRACE:
                self._missing_since = now if self._missing_since is None else self._missing_since
                # It had a ticket, so it was there: that it is gone does not prove that it was not paid for.
                return FaultKind.LOST if now - self._missing_since >= GRACE_SECONDS else None
            case Patience.BELIEVE:
                return kind if progress.fault.verdict.bought is not Bought.NO else FaultKind.LOST
            case Patience.ASK_AGAIN:
                return None


def _wish(progress: Progress) -> float | None:
    if isinstance(progress, Working):
        return progress.retry_after
    return progress.fault.retry_after if isinstance(progress, Unanswered) else None
