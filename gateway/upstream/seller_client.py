"""HTTP client for sellers. It classifies each failed call as not sent, or as outcome unknown."""

import asyncio
from typing import Self

import httpx
from msgspec import Struct

from gateway.catalogue import Seller
from gateway.config.account_proxy import Proxy
from gateway.memory_budget import SMALL_BODY_BYTES, MemoryBudget, MemoryReservation
from gateway.upstream.download import DEFAULT_LIMITS, DownloadLimits, DownloadRequest, download
from gateway.upstream.request_builder import UnsendableRequest, build_request
from gateway.upstream.response_body_decoder import (
    ResponseUnreadable,
    get_response_headers,
    get_response_stream,
    read_response_body,
)
from gateway.upstream.transport import DEFAULT_CONNECT_TIMEOUT_SECONDS, SendProgress
from gateway.upstream.transport_pool import HostSource, TransportOptions, TransportPool, TransportPoolProtocol
from providers.adapter import Answer, Call
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer

# Of a response without images.
MAX_RESPONSE_BYTES = 32 << 20
_NOT_SENT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class CallOptions(Struct, frozen=True):
    """The limits of one call.

    `memory_timeout_seconds`: how long to wait for memory to send a large body. `timeout_seconds`: from then until the
    last byte of the answer; waiting for memory for the answer does not count. `fresh_connection`: use a new
    connection, or one that answered within the last second, for orders that must not be sent twice. An older one may be
    dead, and then it may be unknown whether the order arrived.
    """

    timeout_seconds: float
    connect_timeout_seconds: float = DEFAULT_CONNECT_TIMEOUT_SECONDS
    max_response_bytes: int = MAX_RESPONSE_BYTES
    fresh_connection: bool = False
    memory_timeout_seconds: float = 60.0


class SellerClient:
    """Sends calls to sellers and downloads their images. Make one per process in a running event loop, and close it.

    URLs that a seller named, for uploads and downloads, have separate connections, lookups and memory, so that they
    cannot delay orders.
    """

    def __init__(
        self, transport_pool: TransportPoolProtocol | None = None, memory_budget: MemoryBudget | None = None
    ) -> None:
        self.transport_pool: TransportPoolProtocol = transport_pool or TransportPool()
        self.memory_budget = memory_budget or MemoryBudget()
        # For uploads to URLs that sellers named, and downloads from them.
        self.url_memory_budget = MemoryBudget(self.memory_budget.max_bytes)

    async def send(self, call: Call, seller: Seller, options: CallOptions) -> Answer | NoAnswer:
        """Sends a call and returns its answer, or NoAnswer. Raises only CancelledError."""
        progress, account = SendProgress(), seller.account
        try:
            request, body = build_request(call, seller, progress, options.connect_timeout_seconds)
        except UnsendableRequest as error:
            return _build_no_answer(FaultKind.NOT_SENT, error)
        source = HostSource.SELLER if call.is_presigned else HostSource.OPERATOR
        transport_options = TransportOptions(
            private=account.allows_private_addresses,
            fresh_connection=options.fresh_connection,
            proxy=account.proxy,
            source=source,
        )
        transport = self.transport_pool.get(transport_options)
        memory_budget = self.url_memory_budget if call.is_presigned else self.memory_budget
        with memory_budget.make_outgoing_reservation() as reservation:
            body.on_written = reservation.release
            is_small = body.size <= SMALL_BODY_BYTES
            if not is_small and not await _reserve_memory(reservation, body.size, options.memory_timeout_seconds):
                return NoAnswer(fault=Fault(kind=FaultKind.GATEWAY_BUSY))
            return await _send_request(transport, request, reservation, options)

    async def download(
        self,
        url: str,
        private: bool,
        limits: DownloadLimits = DEFAULT_LIMITS,
        proxy: Proxy | None = None,
        account: str = "",
    ) -> bytes:
        """Downloads an image from a seller's URL, through the account's proxy. Raises DownloadError."""
        transport_options = TransportOptions(
            private=private, fresh_connection=False, proxy=proxy, source=HostSource.SELLER
        )
        transport = self.transport_pool.get(transport_options)
        return await download(
            transport, DownloadRequest(url, private, account, limits), self.url_memory_budget.make_incoming_reservation
        )

    async def aclose(self) -> None:
        await self.transport_pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _send_request(
    transport: httpx.AsyncBaseTransport, request: httpx.Request, reservation: MemoryReservation, options: CallOptions
) -> Answer | NoAnswer:
    progress = request.extensions["progress"]
    try:
        async with asyncio.timeout(options.timeout_seconds) as timeout:
            # Assumed until the transport reports something else. A substituted transport of a test reports nothing.
            progress.has_sent_bytes = True
            response = await transport.handle_async_request(request)
            # The seller read the request, or rejected it unread. Frees its memory before the answer waits for memory.
            reservation.release()
            return await _read_answer(
                response, options.max_response_bytes, reservation.budget.make_incoming_reservation(timeout)
            )
    except TimeoutError as error:
        return _build_no_answer(_classify_timeout(progress), error)
    except httpx.PoolTimeout as error:
        return _build_no_answer(FaultKind.GATEWAY_BUSY, error)
    except _NOT_SENT_ERRORS as error:
        return _build_no_answer(FaultKind.NOT_SENT, error)
    except httpx.TransportError as error:
        return _build_no_answer(FaultKind.RESPONSE_LOST, error)
    except ResponseUnreadable as error:
        return _build_no_answer(FaultKind.UNREADABLE, error)


def _classify_timeout(progress: SendProgress) -> FaultKind:
    if progress.has_sent_bytes:
        return FaultKind.RESPONSE_LOST
    return FaultKind.GATEWAY_BUSY if progress.is_queued else FaultKind.NOT_SENT


async def _read_answer(response: httpx.Response, max_bytes: int, reservation: MemoryReservation) -> Answer:
    stream = get_response_stream(response)
    try:
        with reservation:
            headers = get_response_headers(response)
            return Answer(
                response.status_code, headers, await read_response_body(stream, headers, max_bytes, reservation)
            )
    finally:
        await stream.aclose()


async def _reserve_memory(reservation: MemoryReservation, size: int, timeout_seconds: float) -> bool:
    try:
        async with asyncio.timeout(timeout_seconds):
            await reservation.grow_to(size)
    except TimeoutError:
        return False
    return True


def _build_no_answer(kind: FaultKind, error: Exception) -> NoAnswer:
    """Builds a NoAnswer that contains only the name of the error: error texts contain URLs, which may be signed."""
    transport_error = str(error) if isinstance(error, httpx.TransportError) else ""
    name = transport_error if transport_error.isidentifier() else type(error).__name__
    return NoAnswer(fault=Fault(kind=kind, message=name))
