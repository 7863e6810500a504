"""Buys images that wait: picks a place of the route, opens an attempt, sends the order, and hears its answer."""

import asyncio
from collections.abc import Hashable

from msgspec import Struct

from gateway.catalogue import Offer
from gateway.engine.asking import most_bytes_of
from gateway.engine.delivering import cost_of
from gateway.engine.desk import Desk
from gateway.engine.following import Follower
from gateway.engine.inputs import Brought, Inputs, NotBrought
from gateway.engine.records import REQUEST, TERMS, SavedRequest, Terms, call_saved, order_name, request_from, terms_from
from gateway.jobs.facts import AnswerLost, AttemptOpened, OrderFailed, PartGivenUp, TicketLearned
from gateway.jobs.job import Part, Place, Trace, reference_of
from gateway.jobs.recovery import Buy, deadline_of
from gateway.routing.signals import CellSignals
from gateway.upstream.client import Exchange
from gateway.upstream.limits import NoSlot
from gateway.upstream.reading import understood
from providers.faults import VERDICTS, Bought, Fault, FaultKind, Then
from providers.orders import Feature, InexpressibleError, Order
from providers.progress import Accepted, Failed, Progress, Ready, Unanswered, Working
from providers.spec import Call

# An order's answer: soon for a seller that takes it and works later, and only with the pictures for one that waits.
SUBMIT_SECONDS = 60.0
SLOT_SECONDS = 30.0
EARLY_SECONDS = 1.0
EXTRA_ORDER_SECONDS = 2.0
EXTRA_ORDER_PAUSE = 0.1


class Buyer:
    """One job's. `ordering` names those tasks whose orders are on their way: their answers are known to nobody else."""

    def __init__(self, desk: Desk, follower: Follower) -> None:
        self._desk = desk
        self._follower = follower
        self._hands = desk.hands
        self._inputs = Inputs(desk.hands, desk.job.id)
        # Which of our tasks each image is being bought by.
        self._taken: dict[int, Hashable] = {}
        # After how many tries orders of this job have been counted, as first ones or extra ones.
        self._counted: set[int] = set()
        self._opening = asyncio.Lock()
        self._request: SavedRequest | None = None
        self._terms: tuple[Terms, ...] = ()
        self.ordering: set[Hashable] = set()

    def start(self, images: tuple[int, ...], todo: Buy) -> None:
        """For those of them that nobody here is buying yet."""
        if free := tuple(image for image in images if image not in self._taken):
            self._take(free, todo)

    def _take(self, images: tuple[int, ...], todo: Buy) -> None:
        key = ("buy", images)
        if self._desk.start(key, lambda: self._buy(key, images, todo)):
            self._taken |= dict.fromkeys(images, key)

    async def _buy(self, key: Hashable, images: tuple[int, ...], todo: Buy) -> None:
        try:
            await self._buy_somewhere(key, images, todo)
        finally:
            self._taken = {image: by for image, by in self._taken.items() if by != key}
            self.ordering.discard(key)

    async def _buy_somewhere(self, key: Hashable, images: tuple[int, ...], todo: Buy) -> None:
        """At the first place that will do. A place that takes fewer at once gets them in several orders."""
        last, rest = None, None
        tries = [*await self._first_tries(images, todo.places), *todo.retries]
        for number, (place, at) in enumerate(tries, 1):
            size = self._desk.job.route[place].images
            if len(images) > size:
                return self._split(images, todo, size)
            try:
                await asyncio.sleep(max(0.0, at - self._hands.now()))
                if await self._buy_at(key, images, place, number == len(tries)):
                    return
            except (NotBrought, NoSlot, InexpressibleError) as error:
                last, rest = _fault_kind(error), error.seconds if isinstance(error, NoSlot) else None
                if VERDICTS[last].then is Then.FINAL:
                    break
        given_up = PartGivenUp(fence=self._desk.fence, images=images, kind=last, retry_after=rest)
        await self._desk.mailbox.post(given_up)

    async def _first_tries(self, images: tuple[int, ...], places: tuple[int, ...]) -> list[tuple[int, float]]:
        """The places that were not tried yet, now. A seller that said when to ask again is no extra order: it chose."""
        if not places or not await self._may_order(images, places):
            return []
        return [(place, 0.0) for place in self._by_health(places)]

    def _queue_seconds(self, is_last: bool) -> float:
        """How long it is worth queueing for a place among an account's orders: at the last seller, to the deadline.

        And a moment longer: the deadline itself ends this, and a timer may ring before it, as if the seller had failed.
        """
        left = max(0.0, self._desk.job.deadline - self._hands.now())
        return left + EARLY_SECONDS if is_last else SLOT_SECONDS

    def _split(self, images: tuple[int, ...], todo: Buy, size: int) -> None:
        """Those who buy some of them take them over."""
        for first in range(0, len(images), size):
            self._take(images[first : first + size], todo)

    def _by_health(self, places: tuple[int, ...]) -> list[int]:
        """As a plan ranks them: places that deliver something other than ordered come after all that are well, places
        that are closed at the moment last."""
        return sorted(places, key=lambda place: self._signals(self._desk.job.route[place]).standing)

    def _is_well(self, place: Place) -> bool:
        return self._signals(place).healthy

    def _signals(self, place: Place) -> CellSignals:
        where = self._hands.where(place, self._desk.job.model)
        return self._hands.health.known(where, self._hands.clock()) if where else CellSignals(healthy=False)

    # --- the budget of extra orders

    async def _may_order(self, images: tuple[int, ...], places: tuple[int, ...]) -> bool:
        """Whether another order may be placed for images that one was placed for before. Waits a little.

        All orders of a job that take the place of its first ones count as one, or a job for ten images would lose most
        of them. Leaving a seller that is closed, for one that is not, is no extra order.
        """
        part = self._part(images)
        tries = len(part.tried) if part else 0
        ends = self._hands.clock() + EXTRA_ORDER_SECONDS
        while tries not in self._counted and not self._leaves_a_closed_seller(part, places):
            now = self._hands.clock()
            if not tries:
                self._hands.orders.ordered(now)
                self._counted.add(tries)
            elif self._hands.orders.may_add(now):
                self._hands.orders.added(now)
                self._counted.add(tries)
            elif now >= ends:
                return False
            else:
                await asyncio.sleep(EXTRA_ORDER_PAUSE)
        return True

    def _leaves_a_closed_seller(self, part: Part | None, places: tuple[int, ...]) -> bool:
        if part is None or not part.tried:
            return False
        route = self._desk.job.route
        return not self._is_well(route[part.tried[-1]]) and any(self._is_well(route[place]) for place in places)

    def _part(self, images: tuple[int, ...]) -> Part | None:
        return next((part for part in self._desk.job.parts if set(images) <= set(part.images)), None)

    # --- one order

    async def _buy_at(self, key: Hashable, images: tuple[int, ...], number: int, is_last: bool) -> bool:
        """Whether this place has had its try. The last one gets it also when it is closed: nobody better is left."""
        place = self._desk.job.route[number]
        account = self._offer_for_orders(place).seller.account.name
        request, terms = await self._saved()
        async with self._hands.limits.slot(account, self._queue_seconds(is_last)):
            # Whoever queued for long may find another configuration, and another key.
            offer = self._offer_for_orders(place)
            brought = await self._inputs.bring(offer.seller, request)
            where = self._hands.where(place, self._desk.job.model)
            # If a trial is due, this order is it, and whoever comes after it goes elsewhere.
            trial = self._hands.health.may_try(where, self._hands.clock()) if where else None
            if where and trial is None and not is_last:
                return False
            opened = None
            try:
                opened = await self._open(key, offer, number, images, _Wording(request, terms[number], brought))
            finally:
                if opened is None and trial is not None:
                    self._hands.health.withdraw(trial)
            if opened is not None:
                await self._order(offer, *opened)
            return True

    def _offer_for_orders(self, place: Place) -> Offer:
        """As it is configured by now; NotBrought if nothing new is to be ordered there."""
        offer = self._hands.offer_at(place, self._desk.job.model)
        if offer is None or offer.draining or offer.seller.account.secret is None:
            raise NotBrought(Fault(kind=FaultKind.NOT_SENT, message="the seller is no longer configured"))
        return offer

    async def _saved(self) -> tuple[SavedRequest, tuple[Terms, ...]]:
        if self._request is None:
            found = await self._hands.store.documents(self._desk.job.id, REQUEST, TERMS)
            if not {REQUEST, TERMS} <= found.keys():
                raise NotBrought(Fault(kind=FaultKind.INPUT_MISSING, message="the request is no longer stored"))
            self._request, self._terms = request_from(found[REQUEST]), terms_from(found[TERMS])
        return self._request, self._terms

    async def _open(
        self, key: Hashable, offer: Offer, number: int, images: tuple[int, ...], wording: "_Wording"
    ) -> tuple[int, Call] | None:
        """Saves that an order is about to be sent, and with which bytes. None if it may not be, or not so any more.

        One after the other: an attempt's number is part of its order. From the saving on, this is the attempt's task,
        whatever it was started as: nobody else must think that the order was lost.
        """
        async with self._opening:
            attempt = len(self._desk.job.attempts) + 1
            place = self._desk.job.route[number]
            if self._hands.offer_at(place, self._desk.job.model) is not offer:
                # The configuration changed while inputs were on their way: the owner begins anew with what it says.
                return None
            call = offer.seller.adapter.submit.ask(self._worded(offer, place, attempt, len(images), wording))
            documents = {order_name(attempt): call_saved(call)} if place.trace is Trace.REPLAY else {}
            opening = AttemptOpened(fence=self._desk.fence, place=number, images=images)
            name = ("attempt", attempt)
            self._desk.adopt(key, name)
            self.ordering.add(name)
            if await self._desk.mailbox.post(opening, documents=documents):
                return attempt, call
            self.ordering.discard(name)
            self._desk.adopt(name, key)
            return None

    def _worded(self, offer: Offer, place: Place, attempt: int, images: int, wording: "_Wording") -> Order:
        adapter, request = offer.seller.adapter, wording.request
        calls_back = self._hands.callbacks and Feature.CALLBACK in adapter.speaks.features(request.operation)
        return Order(
            reference=reference_of(self._desk.job.id, attempt),
            operation=request.operation,
            model=place.model,
            prompt=request.prompt,
            size=wording.terms.size,
            output_format=wording.terms.output_format,
            quality=wording.terms.quality,
            images=images,
            sources=wording.brought.sources,
            mask=wording.brought.mask,
            callback_url=(
                self._hands.callbacks.of(adapter.name, self._desk.job.id, attempt)
                if self._hands.callbacks and calls_back
                else None
            ),
        )

    async def _order(self, offer: Offer, attempt: int, call: Call) -> None:
        try:
            await self.send(offer, attempt, call)
        finally:
            self.ordering.discard(("attempt", attempt))
        await self._follower.go_on(attempt)

    async def send(self, offer: Offer, attempt: int, call: Call) -> None:
        """Sends the order and tells what the answer means."""
        adapter = offer.seller.adapter
        seconds = self._patience(attempt) if adapter.holds_connection else SUBMIT_SECONDS
        may_repeat = adapter.replay_key and offer.seller.account.replay_trusted
        most_bytes = most_bytes_of(adapter, len(self._desk.attempt(attempt).images))
        exchange = Exchange(seconds=seconds, most_bytes=most_bytes, fresh=not may_repeat)
        answer = await self._hands.upstream.perform(call, offer.seller, exchange)
        progress = await understood(adapter.submit.read, answer)
        self._note_how_busy(offer, progress)
        await self._heard(offer, attempt, progress)

    def _patience(self, attempt: int) -> float:
        opened = self._desk.attempt(attempt)
        return max(1.0, deadline_of(self._desk.job, opened) - self._hands.now())

    def _note_how_busy(self, offer: Offer, progress: Progress) -> None:
        if isinstance(progress, Failed | Unanswered):
            self._hands.limits.hold(offer.seller.account.name, progress.fault)

    async def _heard(self, offer: Offer, attempt: int, progress: Progress) -> None:
        post = self._desk.mailbox.post
        match progress:
            case Accepted(id=str(ticket)) | Working(id=str(ticket)):
                took = self._hands.now() - self._desk.attempt(attempt).opened
                self._hands.health.accepted(offer.seller.account.name, took, self._hands.clock())
                await post(TicketLearned(attempt=attempt, ticket=ticket))
            case Ready():
                await self._follower.deliverer.deliver(attempt, progress, offer)
            case Failed(fault=fault):
                cost, rest = cost_of(progress, offer), fault.retry_after
                await post(OrderFailed(attempt=attempt, kind=fault.kind, cost=cost, retry_after=rest))
            case Unanswered(fault=fault) if fault.verdict.bought is Bought.NO:
                await post(OrderFailed(attempt=attempt, kind=fault.kind, retry_after=fault.retry_after))
            case Unanswered(fault=fault):
                await post(AnswerLost(attempt=attempt, kind=fault.kind))
            case _:
                await post(AnswerLost(attempt=attempt, kind=FaultKind.UNREADABLE))


def _fault_kind(error: NotBrought | NoSlot | InexpressibleError) -> FaultKind:
    """Why nothing could be ordered at a place."""
    match error:
        case NotBrought(fault=fault):
            kind: FaultKind = fault.kind
            return kind
        case NoSlot():
            return FaultKind.RATE_LIMITED
        case _:
            return FaultKind.BAD_ORDER


class _Wording(Struct, frozen=True):
    """What an order says, but for where and how many."""

    request: SavedRequest
    terms: Terms
    brought: Brought
