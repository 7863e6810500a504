"""Input images on their way to a seller: free and repeatable, so they travel before anything is ordered."""

import asyncio

from msgspec import Struct

from gateway.assets.storage import ForeignObject, ObjectNotFound
from gateway.catalogue import Seller
from gateway.engine.documents import SavedRequest, StoredInput
from gateway.engine.engine_context import EngineContext
from gateway.events import ErrorReported
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Answer, DataUri, InputTransport, Multipart, Upload, UploadDone, UploadGrant, UploadRequest
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from providers.orders import ImageBytes, ImageSource, ImageUrl
from providers.request_helpers import encode_data_uri

CALL_OPTIONS = CallOptions(timeout_seconds=60.0)
PUT_OPTIONS = CallOptions(timeout_seconds=180.0)


class OrderNotSent(Exception):
    """An input did not get there. Nothing has been ordered yet."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class UploadedInputs(Struct, frozen=True):
    sources: tuple[ImageSource, ...]
    mask: ImageSource | None


class InputUploader:
    """One job's. A seller who makes one picture of an order takes ten orders, and each input once."""

    def __init__(self, context: EngineContext, job_id: str) -> None:
        self._context = context
        self._job_id = job_id
        self._uploaded_links: dict[tuple[str, str], ImageUrl] = {}
        self._upload_lock = asyncio.Lock()

    async def upload_all(self, seller: Seller, request: SavedRequest) -> UploadedInputs:
        """In the order of the request; NotBrought if one does not get there."""
        sources = [await self._upload_one(seller, stored_input) for stored_input in request.sources]
        mask = await self._upload_one(seller, request.mask) if request.mask else None
        return UploadedInputs(tuple(sources), mask)

    async def _upload_one(self, seller: Seller, stored_input: StoredInput) -> ImageSource:
        async with self._upload_lock:
            if link := self._uploaded_links.get((seller.name, stored_input.key)):
                return link
            image = ImageBytes(await self._load_input(stored_input.key), stored_input.media_type, stored_input.name)
            route = next(
                (
                    candidate
                    for candidate in seller.adapter.input_transports
                    if _accepts_size(candidate, len(image.data))
                ),
                None,
            )
            if isinstance(route, Upload):
                link = self._uploaded_links[seller.name, stored_input.key] = await _upload_to_seller(
                    self._context, seller, route, image
                )
                return link
        if route is None:
            raise OrderNotSent(
                Fault(kind=FaultKind.INVALID_ORDER, message="an input is larger than any way there allows")
            )
        return ImageUrl(encode_data_uri(image)) if isinstance(route, DataUri) else image

    async def _load_input(self, key: str) -> bytes:
        """No other seller could do without it either, and asking again does not bring it back."""
        try:
            return await self._context.storage.get(key)
        except (ObjectNotFound, ForeignObject) as error:
            if isinstance(error, ForeignObject):
                self._context.emit(ErrorReported(component=error.component, message=str(error), job=self._job_id))
            raise OrderNotSent(Fault(kind=FaultKind.INPUT_MISSING, message="an input is no longer stored")) from None


def _accepts_size(route: InputTransport, size: int) -> bool:
    match route:
        case Multipart():
            return True
        case DataUri(max_bytes=max_bytes) | Upload(max_bytes=max_bytes):
            return size <= max_bytes
        case _:
            return False


async def _upload_to_seller(context: EngineContext, seller: Seller, route: Upload, image: ImageBytes) -> ImageUrl:
    answer = await context.seller_client.send(route.prepare.build_call(image), seller, CALL_OPTIONS)
    grant = route.prepare.read_answer(answer) if isinstance(answer, Answer) else answer
    if not isinstance(grant, UploadGrant):
        raise OrderNotSent(_get_fault(grant))
    answer = await context.seller_client.send(route.put.build_call(UploadRequest(image, grant)), seller, PUT_OPTIONS)
    upload_done = route.put.read_answer(answer) if isinstance(answer, Answer) else answer
    if not isinstance(upload_done, UploadDone):
        raise OrderNotSent(_get_fault(upload_done))
    answer = await context.seller_client.send(route.confirm.build_call(grant), seller, CALL_OPTIONS)
    link = route.confirm.read_answer(answer) if isinstance(answer, Answer) else answer
    if not isinstance(link, ImageUrl):
        raise OrderNotSent(_get_fault(link))
    return link


def _get_fault(answer: NoAnswer) -> Fault:
    return answer.fault
