"""Input images on their way to a seller: free and repeatable, so they travel before anything is ordered."""

import asyncio

from msgspec import Struct

from gateway.assets.shelf import ForeignObject, Missing
from gateway.catalogue import Seller
from gateway.engine.hands import Hands
from gateway.engine.records import Input, SavedRequest
from gateway.events import Trouble
from gateway.upstream.client import Exchange
from providers.faults import Fault, FaultKind
from providers.orders import Inline, Link, Source
from providers.progress import Unanswered
from providers.spec import Answer, DataUri, Granted, InputRoute, Multipart, Stored, Upload, UploadTo
from providers.writing import data_uri

EXCHANGE = Exchange(seconds=60.0)
PUT = Exchange(seconds=180.0)


class NotBrought(Exception):
    """An input did not get there. Nothing has been ordered yet."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class Brought(Struct, frozen=True):
    sources: tuple[Source, ...]
    mask: Source | None


class Inputs:
    """One job's. A seller who makes one picture of an order takes ten orders, and each input once."""

    def __init__(self, hands: Hands, job: str) -> None:
        self._hands = hands
        self._job = job
        self._links: dict[tuple[str, str], Link] = {}
        self._uploading = asyncio.Lock()

    async def bring(self, seller: Seller, request: SavedRequest) -> Brought:
        """In the order of the request; NotBrought if one does not get there."""
        sources = [await self._bring(seller, one) for one in request.sources]
        mask = await self._bring(seller, request.mask) if request.mask else None
        return Brought(tuple(sources), mask)

    async def _bring(self, seller: Seller, wanted: Input) -> Source:
        async with self._uploading:
            if link := self._links.get((seller.name, wanted.key)):
                return link
            image = Inline(await self._stored(wanted.key), wanted.media_type, wanted.name)
            route = next((one for one in seller.adapter.inputs if _takes(one, len(image.data))), None)
            if isinstance(route, Upload):
                link = self._links[seller.name, wanted.key] = await _upload(self._hands, seller, route, image)
                return link
        if route is None:
            raise NotBrought(Fault(kind=FaultKind.BAD_ORDER, message="an input is larger than any way there allows"))
        return Link(data_uri(image)) if isinstance(route, DataUri) else image

    async def _stored(self, key: str) -> bytes:
        """No other seller could do without it either, and asking again does not bring it back."""
        try:
            return await self._hands.shelf.get(key)
        except (Missing, ForeignObject) as error:
            if isinstance(error, ForeignObject):
                self._hands.emit(Trouble(where=error.where, what=str(error), job=self._job))
            raise NotBrought(Fault(kind=FaultKind.INPUT_MISSING, message="an input is no longer stored")) from None


def _takes(route: InputRoute, size: int) -> bool:
    match route:
        case Multipart():
            return True
        case DataUri(max_bytes=most) | Upload(max_bytes=most):
            return size <= most
        case _:
            return False


async def _upload(hands: Hands, seller: Seller, route: Upload, image: Inline) -> Link:
    answer = await hands.upstream.perform(route.prepare.ask(image), seller, EXCHANGE)
    granted = route.prepare.read(answer) if isinstance(answer, Answer) else answer
    if not isinstance(granted, Granted):
        raise NotBrought(_fault(granted))
    answer = await hands.upstream.perform(route.put.ask(UploadTo(image, granted)), seller, PUT)
    stored = route.put.read(answer) if isinstance(answer, Answer) else answer
    if not isinstance(stored, Stored):
        raise NotBrought(_fault(stored))
    answer = await hands.upstream.perform(route.confirm.ask(granted), seller, EXCHANGE)
    link = route.confirm.read(answer) if isinstance(answer, Answer) else answer
    if not isinstance(link, Link):
        raise NotBrought(_fault(link))
    return link


def _fault(answer: Unanswered) -> Fault:
    return answer.fault
