"""Downloads images from any public address, without credentials."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
from msgspec import Struct

from gateway.memory_budget import Reservation
from gateway.upstream.address_guard import AddressBlocked
from gateway.upstream.dns_lookup import LookupTimeout
from gateway.upstream.request_builder import USER_AGENT, UnsendableRequest, validate_external_url
from gateway.upstream.response_body_decoder import (
    ResponseTooLarge,
    ResponseUnreadable,
    get_response_headers,
    get_response_stream,
    read_response_body,
)

_REDIRECT_STATUSES = {301, 302, 303, 307, 308}
_PERMANENT_STATUSES = {400, 401, 403, 404, 410, 451}
# Errors for addresses to which the gateway never connects, so a retry is useless.
_PERMANENT_ERRORS = {AddressBlocked.__name__, "InvalidUrlClientError"}


class DownloadLimits(Struct, frozen=True):
    """`timeout_seconds` covers the whole download with its redirects, but not the wait for memory."""

    max_bytes: int = 64 << 20
    timeout_seconds: float = 60.0
    max_redirects: int = 3


DEFAULT_LIMITS = DownloadLimits()
# The messages about lookup errors, for the client that named the host.
_PUBLIC_REASONS = {LookupTimeout.__name__: "its host name could not be resolved in time"}
# Makes the memory reservation for an image. While the reservation waits for memory, the timeout is paused.
OpenReservation = Callable[[asyncio.Timeout], AbstractContextManager[Reservation]]


class DownloadRequest(Struct, frozen=True):
    """A download.

    `private`: whether the URL may lead into the network of the operator. Otherwise only https to public addresses is
    allowed. `tenant`: the team or account against whose limits DNS lookups count.
    """

    url: str
    private: bool
    tenant: str
    limits: DownloadLimits = DEFAULT_LIMITS


class DownloadError(Exception):
    """The download failed. The message never contains the URL, which may be signed.

    `is_permanent`: a retry with the same URL is useless. `public_reason`: the text for the client that named the URL;
    None if no request reached the server.
    """

    def __init__(self, reason: str, *, is_permanent: bool = False, public_reason: str | None = None) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent
        self.public_reason = public_reason


async def download(
    transport: httpx.AsyncBaseTransport, request: DownloadRequest, open_reservation: OpenReservation
) -> bytes:
    """Downloads the content of the URL. Raises DownloadError."""
    failure: DownloadError
    limits = request.limits
    try:
        async with asyncio.timeout(limits.timeout_seconds) as timeout:
            response = await _follow_redirects(transport, request)
            stream = get_response_stream(response)
            try:
                with open_reservation(timeout) as reservation:
                    _check_status(response.status_code)
                    return await read_response_body(
                        stream, get_response_headers(response), limits.max_bytes, reservation
                    )
            finally:
                await stream.aclose()
    except DownloadError as error:
        failure = error
    except UnsendableRequest as error:
        failure = DownloadError(type(error).__name__, is_permanent=True)
    except ResponseTooLarge as error:
        public_reason = f"it is larger than {limits.max_bytes >> 20} MiB"
        failure = DownloadError(type(error).__name__, is_permanent=True, public_reason=public_reason)
    except httpx.TransportError as error:
        failure = DownloadError(
            str(error), is_permanent=str(error) in _PERMANENT_ERRORS, public_reason=_PUBLIC_REASONS.get(str(error))
        )
    except TimeoutError as error:
        failure = DownloadError(type(error).__name__, public_reason="it did not arrive in time")
    except ResponseUnreadable as error:
        failure = DownloadError(type(error).__name__)
    # Raised outside of `except`, so that it does not carry the text of another error.
    raise failure


async def _follow_redirects(transport: httpx.AsyncBaseTransport, request: DownloadRequest) -> httpx.Response:
    """Returns the first response that is not a redirect. Every URL on the way is validated like the first."""
    url = validate_external_url(request.url, request.private)
    for _ in range(request.limits.max_redirects + 1):
        response = await transport.handle_async_request(_build_get_request(url, request.tenant))
        if response.status_code not in _REDIRECT_STATUSES:
            return response
        await get_response_stream(response).aclose()
        url = validate_external_url(_resolve_redirect(url, response.headers.get("location", "")), request.private)
    raise DownloadError("too many redirects")


def _build_get_request(url: httpx.URL, tenant: str) -> httpx.Request:
    headers = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
    return httpx.Request("GET", url, headers=headers, extensions={"tenant": tenant})


def _resolve_redirect(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""


def _check_status(status: int) -> None:
    if status != httpx.codes.OK:
        public_reason = f"its server answered with status {status}"
        raise DownloadError(f"status {status}", is_permanent=status in _PERMANENT_STATUSES, public_reason=public_reason)
