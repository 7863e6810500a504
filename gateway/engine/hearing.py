"""What a seller's callback is worth: a hint that there is something to ask about. What counts is the answer to that."""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from gateway.catalogue import Offer
from gateway.engine.asking import is_its_ticket, shows_references
from gateway.engine.engine import Engine
from gateway.engine.seen_callbacks import SeenCallbacks, digest_of
from gateway.events import CallbackReceived, Worth
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import apply
from gateway.jobs.facts import CallbackSeen, Happening, TicketLearned
from gateway.jobs.job import Attempt, Job
from gateway.store.base import Stale

TRIES = 5
# Between two questions about one attempt that redelivered callbacks lead to, and for how many attempts this is known.
QUESTION_SECONDS, MAX_ASKED = 1.0, 10_000


class NotNow(Exception):
    """What was said could not be checked, or saved: whoever said it should say it again."""


class Callbacks:
    """Whoever has an attempt's own address, and signs as its seller does, is heard."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hands = engine.hands
        self._seen = SeenCallbacks()
        # When a seller was last asked whether a ticket belongs to an attempt.
        self._asked_at: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def hears(self, path: tuple[str, str, int, str], headers: Mapping[str, str], body: bytes) -> bool:
        """False if nobody but an impostor would say this. What comes late or twice is heard, and changes nothing.

        NotNow if it cannot be heard at the moment.
        """
        adapter, name, number, seal = path
        is_ours = self._hands.callbacks is not None and self._hands.callbacks.is_ours(adapter, name, number, seal)
        worth = Worth.DEFERRED
        try:
            worth = await self._heard(name, number, headers, body) if is_ours else Worth.UNKNOWN
        finally:
            job = name if is_ours else None
            self._hands.emit(CallbackReceived(adapter=adapter if is_ours else "unknown", worth=worth, job=job))
        return worth not in (Worth.UNKNOWN, Worth.FORGED)

    async def _heard(self, name: str, number: int, headers: Mapping[str, str], body: bytes) -> Worth:
        job = await self._engine.job(name)
        attempt = job.attempt(number) if job else None
        if job is None or attempt is None:
            return Worth.LATE
        offer = self._offer_of(job, attempt)
        spoken = offer.seller.adapter.callback if offer else None
        if offer is None or spoken is None:
            return Worth.LATE
        secrets = [secret.reveal() for secret in offer.seller.account.callback_secrets]
        if not secrets:
            # Without a secret nobody can tell who speaks: the order is asked about in its own time.
            return Worth.UNCHECKED
        if not spoken.verify(headers, body, secrets, self._hands.now()):
            return Worth.FORGED
        process = partial(self._process, job, attempt, offer, spoken.read(body))
        is_used = partial(self._is_used, job, attempt)
        is_new = await self._seen.process((name, number), digest_of(spoken, headers, body), process, is_used)
        return Worth.ACCEPTED if is_new else Worth.DUPLICATE

    async def _process(self, job: Job, attempt: Attempt, offer: Offer, ticket: str | None) -> int | None:
        """Returns the fence of the owner here that the callback was passed to, None if it was saved in the store."""
        needs_ticket = ticket is not None and _needs_ticket(attempt)
        fence = self._engine.called(job.id, attempt.number, ticket)
        if fence is not None and (not needs_ticket or await self._engine.owns(job.id, fence)):
            return fence
        await self._save(job.id, CallbackSeen(attempt=attempt.number))
        saved = await self._hands.store.load(job.id) if needs_ticket else None
        if saved and ticket is not None and (fresh := saved.attempt(attempt.number)) and _needs_ticket(fresh):
            await self._bind(saved, fresh, offer, ticket)
        return None

    async def _is_used(self, job: Job, attempt: Attempt, fence: int | None) -> bool:
        """Whether a redelivery adds nothing. A ticket that its owner did not save is lost with the lease."""
        return fence is None or not _needs_ticket(attempt) or await self._engine.owns(job.id, fence)

    def _offer_of(self, job: Job, attempt: Attempt) -> Offer | None:
        """NotNow where another replica may know the seller, and hear what cannot be checked here."""
        offer = self._hands.offer_at(job.place_of(attempt), job.model)
        if offer is None and attempt.is_open:
            raise NotNow
        return offer

    async def _bind(self, job: Job, attempt: Attempt, offer: Offer, ticket: str) -> None:
        """The answer to the order may be lost: then nobody but this caller says which of the seller's orders it is.

        Where only its word is to be had, the answer has the first say as long as it may come.
        """
        if attempt.lost is None and not shows_references(offer):
            raise NotNow
        self._limit_questions(job.id, attempt.number)
        is_its = await is_its_ticket(self._hands, job, attempt, offer, ticket)
        if is_its is None:
            raise NotNow
        if is_its:
            await self._save(job.id, TicketLearned(attempt=attempt.number, ticket=ticket))

    def _limit_questions(self, job: str, attempt: int) -> None:
        """Raises NotNow if the seller was asked about this attempt within the last second. A later delivery may ask."""
        now, key = self._hands.clock(), (job, attempt)
        if now - self._asked_at.get(key, -QUESTION_SECONDS) < QUESTION_SECONDS:
            raise NotNow
        self._asked_at[key] = now
        self._asked_at.move_to_end(key)
        if len(self._asked_at) > MAX_ASKED:
            self._asked_at.popitem(last=False)

    async def _save(self, name: str, fact: Happening) -> None:
        """Its owner works elsewhere, and hears of what is saved."""
        for _ in range(TRIES):
            job = await self._hands.store.load(name)
            commit = apply(job, fact, self._hands.now()) if job else Ignored("gone")
            if isinstance(commit, Ignored) or not isinstance(await self._hands.store.commit(commit), Stale):
                return
        raise NotNow


def _needs_ticket(attempt: Attempt) -> bool:
    return attempt.is_open and attempt.ticket is None
