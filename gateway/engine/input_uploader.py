"""Uploads input images to a seller before an order is sent. Uploads are free and may be repeated."""

import asyncio

from msgspec import Struct

from gateway.assets.storage import ForeignObject, ObjectNotFound
from gateway.catalogue import Seller
from gateway.engine.account_events import record_refusal
from gateway.engine.engine_context import EngineContext
from gateway.engine.job_documents import SavedRequest, StoredInput
from gateway.engine.seller_call_events import SellerCall, observe_seller_call
from gateway.events import ErrorReported, SellerCallStep
from gateway.jobs.job import Job
from gateway.large_body_thread import BodyThread
from gateway.upstream.seller_client import CallOptions
from providers.adapter import (
    Answer,
    Call,
    DataUri,
    InputTransport,
    Multipart,
    Upload,
    UploadDone,
    UploadGrant,
    UploadRequest,
)
from providers.call_builders import encode_data_uri
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from providers.orders import ImageBytes, ImageSource, ImageUrl

# Some sellers require a checksum of the bytes. Computing it for this size takes about two milliseconds.
MAX_INLINE_BYTES = 1 << 20
_run_off_loop = BodyThread("upload-preparer", MAX_INLINE_BYTES).run


class OrderNotSent(Exception):
    """The order cannot be sent; `fault` says why. Nothing has been ordered or charged."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.kind)
        self.fault = fault


class UploadedInputs(Struct, frozen=True):
    """The inputs of an order, as URLs or as bytes: whichever the seller accepts."""

    sources: tuple[ImageSource, ...]
    mask: ImageSource | None


class InputUploader:
    """Uploads the inputs of one job: each input once per seller, for all orders of the job."""

    def __init__(self, context: EngineContext, job: Job) -> None:
        self._context = context
        self._job = job
        self._uploaded_urls: dict[tuple[str, str], ImageUrl] = {}
        self._upload_lock = asyncio.Lock()

    async def upload_all(self, seller: Seller, request: SavedRequest) -> UploadedInputs:
        """Returns the inputs in the order of the request. Raises OrderNotSent if one cannot be uploaded."""
        sources = [await self._upload_one(seller, stored_input) for stored_input in request.sources]
        mask = await self._upload_one(seller, request.mask) if request.mask else None
        return UploadedInputs(tuple(sources), mask)

    async def _upload_one(self, seller: Seller, stored_input: StoredInput) -> ImageSource:
        async with self._upload_lock:
            if url := self._uploaded_urls.get((seller.name, stored_input.key)):
                return url
            image = ImageBytes(await self._load_input(stored_input.key), stored_input.media_type, stored_input.name)
            transports = seller.adapter.input_transports
            transport = next((option for option in transports if _accepts_size(option, len(image.data))), None)
            if isinstance(transport, Upload):
                url = self._uploaded_urls[seller.name, stored_input.key] = await self._upload_to_seller(
                    seller, transport, image
                )
                return url
        if transport is None:
            raise OrderNotSent(
                Fault(kind=FaultKind.INVALID_ORDER, message="an input image is larger than the seller accepts")
            )
        return ImageUrl(encode_data_uri(image)) if isinstance(transport, DataUri) else image

    async def _upload_to_seller(self, seller: Seller, upload: Upload, image: ImageBytes) -> ImageUrl:
        timing = self._context.timing.orders
        request_options = CallOptions(timeout_seconds=timing.upload_request_timeout_seconds)
        upload_options = CallOptions(timeout_seconds=timing.upload_timeout_seconds)
        prepare_call = await _run_off_loop(len(image.data), upload.prepare.build_call, image)
        answer = await self._send(prepare_call, seller, request_options)
        grant = upload.prepare.read_answer(answer) if isinstance(answer, Answer) else answer
        if not isinstance(grant, UploadGrant):
            raise self._make_error(seller, grant)
        answer = await self._send(upload.put.build_call(UploadRequest(image, grant)), seller, upload_options)
        upload_done = upload.put.read_answer(answer) if isinstance(answer, Answer) else answer
        if not isinstance(upload_done, UploadDone):
            raise self._make_error(seller, upload_done)
        answer = await self._send(upload.confirm.build_call(grant), seller, request_options)
        url = upload.confirm.read_answer(answer) if isinstance(answer, Answer) else answer
        if not isinstance(url, ImageUrl):
            raise self._make_error(seller, url)
        return url

    async def _send(self, call: Call, seller: Seller, options: CallOptions) -> Answer | NoAnswer:
        return await observe_seller_call(
            self._context,
            SellerCall(self._job, None, seller.name, SellerCallStep.UPLOAD),
            self._context.seller_client.send(call, seller, options),
        )

    def _make_error(self, seller: Seller, answer: NoAnswer) -> "OrderNotSent":
        record_refusal(self._context, seller, answer.fault)
        return OrderNotSent(answer.fault)

    async def _load_input(self, key: str) -> bytes:
        """Loads an input. Raises OrderNotSent if it is missing: then neither another seller nor a retry can succeed."""
        try:
            return await self._context.storage.get(key)
        except (ObjectNotFound, ForeignObject) as error:
            if isinstance(error, ForeignObject):
                self._context.emit(ErrorReported(component=error.component, message=str(error), job=self._job.id))
            raise OrderNotSent(
                Fault(kind=FaultKind.INPUT_MISSING, message="an input image is no longer stored")
            ) from None


def _accepts_size(transport: InputTransport, size: int) -> bool:
    match transport:
        case Multipart():
            return True
        case DataUri(max_bytes=max_bytes) | Upload(max_bytes=max_bytes):
            return size <= max_bytes
        case _:
            return False
