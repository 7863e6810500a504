"""Brings a seller's pictures home: fetched, looked at, converted where that is needed, kept, and then told of."""

import asyncio
from functools import partial
from hashlib import sha256

from msgspec import Struct

from gateway.assets.conformance import Conformance, Ordered, judge
from gateway.assets.converting import converted
from gateway.assets.headers import Header, NotAPicture, is_whole, read_header
from gateway.assets.keys import key_of
from gateway.assets.shelf import ShelfError
from gateway.catalogue import Account, Offer
from gateway.engine.desk import Desk
from gateway.engine.records import (
    REQUEST,
    TERMS,
    Picture,
    SavedRequest,
    Terms,
    encode,
    order_name,
    picture_name,
    request_from,
    terms_from,
)
from gateway.engine.telling import record_health
from gateway.events import Trouble
from gateway.jobs.facts import PicturesDelivered, PicturesReady
from gateway.jobs.job import Attempt
from gateway.jobs.recovery import deadline_of
from gateway.upstream.download import DownloadError
from gateway.upstream.health import Outcome
from providers.faults import FaultKind
from providers.orders import Format, Inline, Link, Source
from providers.progress import Failed, Ready

TRIES = 3
PAUSE, LONGEST_PAUSE = 0.5, 30.0
# As long as pictures may take to be here.
FETCHING_SECONDS = 300.0
MEDIA_TYPES = {Format.PNG: "image/png", Format.JPEG: "image/jpeg", Format.WEBP: "image/webp"}


class Fetched(Struct, frozen=True):
    """A picture as it came: what its own bytes say of it."""

    data: bytes
    header: Header


class Kept(Struct, frozen=True):
    """One that lies on our shelf."""

    picture: Picture
    conformance: Conformance


class Gone(Exception):
    """The picture will not come back by itself; the seller may know another address of it."""


class Deliverer:
    """One job's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hands = desk.hands
        self._vain: dict[int, int] = {}
        self._saved: tuple[SavedRequest, tuple[Terms, ...]] | None = None

    async def deliver(self, number: int, ready: Ready, offer: Offer) -> bool:
        """Whether this ended the attempt. If not, the seller is asked again: it may have fresh addresses."""
        attempt = self._desk.attempt(number)
        await self._protect(attempt, ready, offer)
        pairs = list(zip(attempt.images, ready.pictures, strict=False))
        kept = await asyncio.gather(*(self._bring(attempt, image, one, offer) for image, one in pairs))
        there = [one for one in kept if one is not None]
        if len(there) < len(pairs) and self._is_worth_asking_again(number):
            return False
        await self._tell(attempt, ready, offer, there, len(there) < len(pairs))
        return True

    def _is_worth_asking_again(self, number: int) -> bool:
        attempt = self._desk.attempt(number)
        self._vain[number] = self._vain.get(number, 0) + 1
        return self._desk.job.can_ask_about(attempt) and self._vain[number] < TRIES

    async def _protect(self, attempt: Attempt, ready: Ready, offer: Offer) -> None:
        """Whoever cannot be asked again must not be forgotten: where the pictures lie is saved before they are fetched.

        For others it is enough that they can be asked; but near a deadline it is saved that there are pictures, which
        are paid for and worth waiting for.
        """
        can_ask = self._desk.job.can_ask_about(attempt)
        if attempt.ready or (can_ask and not self._is_nearly_over(attempt)):
            return
        links = () if can_ask else tuple(one.url for one in ready.pictures if isinstance(one, Link))
        if links or can_ask:
            cost = cost_of(ready, offer)
            await self._desk.mailbox.post(PicturesReady(attempt=attempt.number, cost=cost, links=links))

    def _is_nearly_over(self, attempt: Attempt) -> bool:
        ends = min(self._desk.job.deadline, deadline_of(self._desk.job, attempt))
        return ends - self._hands.now() < FETCHING_SECONDS

    async def _tell(self, attempt: Attempt, ready: Ready, offer: Offer, there: list[Kept], is_missing: bool) -> None:
        place = self._desk.place_of(attempt)
        as_ordered = all(one.conformance.as_ordered for one in there)
        _, terms = await self._wanted(attempt)
        found = (word for one in there for word in one.conformance.warnings)
        warnings = tuple(dict.fromkeys((*terms.substitutions, *found)))
        delivered = PicturesDelivered(
            attempt=attempt.number,
            images=tuple(one.picture.index for one in there),
            made=min(len(ready.pictures), len(attempt.images)),
            cost=cost_of(ready, offer),
            missing=FaultKind.EXPIRED if is_missing else FaultKind.EMPTY,
            warnings=warnings,
        )
        documents = {picture_name(one.picture.index): encode(one.picture) for one in there}
        outcome = Outcome(seconds=self._hands.now() - attempt.opened, as_ordered=as_ordered)
        well = (
            partial(record_health, self._hands, self._desk.job, attempt, outcome) if there and not is_missing else None
        )
        dropped = (order_name(attempt.number),)
        if not await self._desk.mailbox.post(delivered, documents=documents, dropped=dropped, then=well) and there:
            self._hands.emit(Trouble(where="engine", what=f"{place.seller} delivered too late", job=self._desk.job.id))

    async def _wanted(self, attempt: Attempt) -> tuple[SavedRequest, Terms]:
        if self._saved is None:
            found = await self._hands.store.documents(self._desk.job.id, REQUEST, TERMS)
            self._saved = request_from(found[REQUEST]), terms_from(found[TERMS])
        request, terms = self._saved
        return request, terms[attempt.place]

    # --- one picture

    async def _bring(self, attempt: Attempt, image: int, source: Source, offer: Offer) -> Kept | None:
        """None if it cannot be had. Whatever passes by itself is waited for: the picture has been paid for."""
        pause = PAUSE
        while True:
            try:
                fetched = await self._fetched(source, offer.seller.account)
                return await self._keep(attempt, image, fetched)
            except (Gone, NotAPicture):
                return None
            except (DownloadError, ShelfError) as error:
                self._hands.emit(Trouble(where="delivery", what=type(error).__name__, job=self._desk.job.id))
                if isinstance(error, DownloadError) and self._desk.job.can_ask_about(attempt):
                    return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _fetched(self, source: Source, account: Account) -> Fetched:
        """NotAPicture, Gone, or a DownloadError that may pass."""
        if isinstance(source, Inline):
            data = source.data
        else:
            try:
                data = await self._hands.upstream.download(source.url, account.private, proxy=account.proxy)
            except DownloadError as error:
                if error.gone:
                    raise Gone from error
                raise
        header = read_header(data)
        if not is_whole(data, header):
            raise NotAPicture("the picture is cut off")
        return Fetched(data, header)

    async def _keep(self, attempt: Attempt, image: int, fetched: Fetched) -> Kept:
        request, terms = await self._wanted(attempt)
        conformance = _judged(fetched.header, request, terms)
        data = await converted(fetched.data, fetched.header, request.output_format)
        header = read_header(data)
        key = key_of(self._desk.job.id, f"image-{image}.{header.format}")
        await self._hands.shelf.put(key, data, MEDIA_TYPES[header.format])
        picture = Picture(
            index=image,
            key=key,
            format=header.format,
            width=header.width,
            height=header.height,
            bytes=len(data),
            sha256=sha256(data).hexdigest(),
            seller=self._desk.place_of(attempt).seller,
            attempt=attempt.number,
        )
        return Kept(picture, conformance)


def _judged(header: Header, request: SavedRequest, terms: Terms) -> Conformance:
    return judge(header, Ordered(request.target, terms.size), request.output_format)


def cost_of(ended: Ready | Failed, offer: Offer) -> int | None:
    """What the seller says it charged; else what its tokens come to, where it sells by tokens."""
    cost = ended.cost if isinstance(ended, Ready) else ended.fault.cost
    if cost is not None or ended.usage is None or offer.tokens is None:
        return cost
    return offer.tokens.charge(ended.usage)
