"""Brings a seller's pictures home: fetched, looked at, converted where that is needed, kept, and then told of."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

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
from gateway.events import LateDelivery, Trouble, fault_of
from gateway.jobs.facts import PicturesDelivered, PicturesReady
from gateway.jobs.job import Attempt
from gateway.jobs.recovery import deadline_of
from gateway.store.base import StoreUnavailable
from gateway.upstream.download import DownloadError
from gateway.upstream.health import Outcome
from providers.faults import FaultKind
from providers.orders import Format, Inline, Link, Source
from providers.progress import Failed, Ready

# After how many tries it is believed that a picture is gone, or none: a host that stumbles says so too. With these
# pauses that takes half a minute; whatever else is wrong is tried for as long as the picture may exist.
TRIES = 5
PAUSE, GROWTH, LONGEST_PAUSE = 0.75, 3.0, 30.0
# As long as pictures may take to be here.
FETCHING_SECONDS = 300.0
MEDIA_TYPES = {Format.PNG: "image/png", Format.JPEG: "image/jpeg", Format.WEBP: "image/webp"}
Done = TypeVar("Done")


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


class Ended(Struct, frozen=True):
    """An order whose pictures are made: what its seller says of them."""

    number: int
    ready: Ready
    offer: Offer


class Deliverer:
    """One job's. What is in our hands stays there until it is kept: it has been paid for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hands = desk.hands
        # By attempt and image.
        self._kept: dict[tuple[int, int], Kept] = {}
        self._vain: Counter[tuple[int, int]] = Counter()
        self._pauses: defaultdict[int, Iterator[float]] = defaultdict(_pauses)
        self._saved: tuple[SavedRequest, tuple[Terms, ...]] | None = None

    async def deliver(self, number: int, ready: Ready, offer: Offer) -> bool:
        """Whether this ended the attempt. If not, the seller is asked again: it may have fresh addresses."""
        order = Ended(number, ready, offer)
        if self._must_be_told_early(order):
            await self._say_ready(order)
        while True:
            attempt = self._desk.attempt(number)
            pairs = list(zip(attempt.images, ready.pictures, strict=False))
            missing = [pair for pair in pairs if (number, pair[0]) not in self._kept]
            await asyncio.gather(*(self._bring(order, image, source) for image, source in missing))
            if not self._may_still_come(order):
                there = [kept for image, _ in pairs if (kept := self._kept.get((number, image)))]
                await self._tell(order, there, len(there) < len(pairs))
                return True
            await self._say_ready(order)
            if not self._desk.attempt(number).is_open:
                return True
            await asyncio.sleep(next(self._pauses[number]))
            if self._desk.job.can_ask_about(attempt):
                return False

    def _may_still_come(self, order: Ended) -> bool:
        """Whether any of its pictures is neither here nor lost, and there is time to try again."""
        attempt = self._desk.attempt(order.number)
        images = ((order.number, image) for image, _ in zip(attempt.images, order.ready.pictures, strict=False))
        awaited = any(one not in self._kept and self._vain[one] < TRIES for one in images)
        left = self._exist_until(attempt) - self._hands.now()
        return awaited and left > LONGEST_PAUSE

    def _exist_until(self, attempt: Attempt) -> float:
        return deadline_of(self._desk.job, replace(attempt, ready=True))

    # --- that there are pictures

    def _must_be_told_early(self, order: Ended) -> bool:
        """Whoever cannot be asked again must not be forgotten, so it is saved where the pictures lie. And near a
        deadline, that there are pictures, which are paid for and worth waiting for."""
        attempt = self._desk.attempt(order.number)
        return bool(self._links(order)) or self._is_nearly_over(attempt)

    async def _say_ready(self, order: Ended) -> None:
        """From here on only the pictures' own expiry ends the attempt."""
        if self._desk.attempt(order.number).ready:
            return
        ready = order.ready
        cost, links = cost_of(ready, order.offer), self._links(order)
        await self._desk.mailbox.post(PicturesReady(attempt=order.number, cost=cost, links=links, usage=ready.usage))

    def _links(self, order: Ended) -> tuple[str, ...]:
        """For others it is enough that they can be asked."""
        if self._desk.job.can_ask_about(self._desk.attempt(order.number)):
            return ()
        return tuple(one.url for one in order.ready.pictures if isinstance(one, Link))

    def _is_nearly_over(self, attempt: Attempt) -> bool:
        ends = min(self._desk.job.deadline, deadline_of(self._desk.job, attempt))
        return ends - self._hands.now() < FETCHING_SECONDS

    # --- that they are here

    async def _tell(self, order: Ended, there: list[Kept], is_missing: bool) -> None:
        attempt = self._desk.attempt(order.number)
        place = self._desk.place_of(attempt)
        as_ordered = all(one.conformance.as_ordered for one in there)
        warnings = await self._warnings(order, attempt, there) if there else ()
        delivered = PicturesDelivered(
            attempt=attempt.number,
            images=tuple(one.picture.index for one in there),
            made=min(len(order.ready.pictures), len(attempt.images)),
            cost=cost_of(order.ready, order.offer),
            missing=FaultKind.EXPIRED if is_missing else FaultKind.EMPTY,
            warnings=warnings,
            usage=order.ready.usage,
        )
        documents = {picture_name(attempt.number, one.picture.index): encode(one.picture) for one in there}
        outcome = Outcome(seconds=self._hands.now() - attempt.opened, as_ordered=as_ordered)
        well = (
            partial(record_health, self._hands, self._desk.job, attempt, outcome) if there and not is_missing else None
        )
        dropped = (order_name(attempt.number),)
        await self._desk.mailbox.post(delivered, documents=documents, dropped=dropped, then=well)
        if there and not self._desk.attempt(order.number).delivered:
            self._hands.emit(
                LateDelivery(job=self._desk.job.id, attempt=order.number, seller=place.seller, images=len(there))
            )

    async def _warnings(self, order: Ended, attempt: Attempt, there: list[Kept]) -> tuple[str, ...]:
        _, terms = await self._in_the_end(order, lambda: self._wanted(attempt))
        found = (word for one in there for word in one.conformance.warnings)
        return tuple(dict.fromkeys((*terms.substitutions, *found)))

    async def _wanted(self, attempt: Attempt) -> tuple[SavedRequest, Terms]:
        if self._saved is None:
            found = await self._hands.store.documents(self._desk.job.id, REQUEST, TERMS)
            self._saved = request_from(found[REQUEST]), terms_from(found[TERMS])
        request, terms = self._saved
        return request, terms[attempt.place]

    # --- one picture

    async def _bring(self, order: Ended, image: int, source: Source) -> None:
        """Fetches it once, and keeps what came."""
        name = order.number, image
        try:
            fetched = await self._fetched(source, order.offer.seller.account)
            self._kept[name] = await self._keep(order, image, fetched)
        except DownloadError as error:
            self._trouble(type(error).__name__)
        except (Gone, NotAPicture):
            # The same bytes will never be another thing; what is fetched anew may be.
            self._vain[name] += TRIES if isinstance(source, Inline) else 1
        except Exception as error:  # noqa: BLE001  over one picture its siblings must not be lost
            self._trouble(fault_of(error))
            self._vain[name] += 1

    def _trouble(self, what: str) -> None:
        self._hands.emit(Trouble(where="delivery", what=what, job=self._desk.job.id))

    async def _in_the_end(self, order: Ended, step: Callable[[], Awaitable[Done]]) -> Done:
        """What our store or our shelf refuses it takes later, and the picture is in nobody's hands but ours."""
        pauses = _pauses()
        while True:
            try:
                return await step()
            except (ShelfError, StoreUnavailable) as error:
                self._trouble(type(error).__name__)
            await self._say_ready(order)
            await asyncio.sleep(next(pauses))

    async def _fetched(self, source: Source, account: Account) -> Fetched:
        """NotAPicture, Gone, or a DownloadError that may pass."""
        if isinstance(source, Inline):
            data = source.data
        else:
            try:
                data = await self._hands.upstream.download(
                    source.url, account.private, proxy=account.proxy, account=account.name
                )
            except DownloadError as error:
                if error.gone:
                    raise Gone from error
                raise
        header = read_header(data)
        if not is_whole(data, header):
            raise NotAPicture("the picture is cut off")
        return Fetched(data, header)

    async def _keep(self, order: Ended, image: int, fetched: Fetched) -> Kept:
        attempt = self._desk.attempt(order.number)
        request, terms = await self._in_the_end(order, lambda: self._wanted(attempt))
        data = await converted(fetched.data, fetched.header, request.output_format)
        header = read_header(data)
        digest = sha256(data).hexdigest()
        # By its bytes: another replica that fetches the same order's pictures may get others, or in another order.
        key = key_of(self._desk.job.id, f"image-{order.number}-{image}-{digest[:16]}.{header.format}")
        await self._in_the_end(order, lambda: self._hands.shelf.put(key, data, MEDIA_TYPES[header.format]))
        picture = Picture(
            index=image,
            key=key,
            format=header.format,
            width=header.width,
            height=header.height,
            bytes=len(data),
            sha256=digest,
            seller=self._desk.place_of(attempt).seller,
            attempt=attempt.number,
            quality=terms.quality,
            is_opaque=not header.has_alpha,
        )
        return Kept(picture, _judged(fetched.header, request, terms))


def _pauses() -> Iterator[float]:
    pause = PAUSE
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST_PAUSE)


def _judged(header: Header, request: SavedRequest, terms: Terms) -> Conformance:
    return judge(header, Ordered(request.target, terms.size), request.output_format)


def cost_of(ended: Ready | Failed, offer: Offer) -> int | None:
    """What the seller says it charged; else what its tokens come to, where it sells by tokens."""
    cost = ended.cost if isinstance(ended, Ready) else ended.fault.cost
    if cost is not None or ended.usage is None or offer.tokens is None:
        return cost
    return offer.tokens.charge(ended.usage)
