"""Input images on their way to a seller: free and repeatable, so they travel before anything is ordered."""

from msgspec import Struct

from gateway.catalogue import Seller
from gateway.engine.hands import Hands
from gateway.engine.records import Input, SavedRequest
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


async def bring(hands: Hands, seller: Seller, request: SavedRequest) -> Brought:
    """In the order of the request; NotBrought if one does not get there."""
    sources = [await _bring_one(hands, seller, one) for one in request.sources]
    mask = await _bring_one(hands, seller, request.mask) if request.mask else None
    return Brought(tuple(sources), mask)


async def _bring_one(hands: Hands, seller: Seller, wanted: Input) -> Source:
    image = Inline(await hands.shelf.get(wanted.key), wanted.media_type, wanted.name)
    for route in seller.adapter.inputs:
        if _takes(route, len(image.data)):
            return await _by(hands, seller, route, image)
    raise NotBrought(Fault(kind=FaultKind.BAD_ORDER, message="an input is larger than any way there allows"))


def _takes(route: InputRoute, size: int) -> bool:
    match route:
        case Multipart():
            return True
        case DataUri(max_bytes=most) | Upload(max_bytes=most):
            return size <= most
        case _:
            return False


async def _by(hands: Hands, seller: Seller, route: InputRoute, image: Inline) -> Source:
    match route:
        case DataUri():
            return Link(data_uri(image))
        case Upload():
            return await _upload(hands, seller, route, image)
        case _:
            return image


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
