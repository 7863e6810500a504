"""Pictures, fetched from wherever they were put: any public address, and never with credentials of ours."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
from msgspec import Struct

from gateway.memory_budget import Reservation
from gateway.upstream.http_bodies import (
    ResponseTooLarge,
    ResponseUnreadable,
    get_response_headers,
    get_response_stream,
    read_response_body,
)
from gateway.upstream.request_builder import USER_AGENT, UnsendableRequest, validate_external_url

_REDIRECT_STATUSES = {301, 302, 303, 307, 308}
_PERMANENT_STATUSES = {400, 401, 403, 404, 410, 451}
# What connecting calls an address that we never connect to, however often we try.
_PERMANENT_ERRORS = {"AddressBlocked", "InvalidUrlClientError"}


class DownloadLimits(Struct, frozen=True):
    """`timeout_seconds` for everything, redirects included, but for the time in which we have no room for it."""

    max_bytes: int = 64 << 20
    timeout_seconds: float = 60.0
    max_redirects: int = 3


DEFAULT_LIMITS = DownloadLimits()
# Errors of names that are not looked up in time, in words for the client that named them.
_PUBLIC_REASONS = {"LookupTimeout": "its host name could not be resolved in time"}
# Room for a picture, whose clock stands still while it waits for it.
OpenReservation = Callable[[asyncio.Timeout], AbstractContextManager[Reservation]]


class DownloadRequest(Struct, frozen=True):
    """`private`: whether it may be in our own network; else https to public addresses only. `tenant`: the team or
    account that lookups are counted against."""

    url: str
    private: bool
    tenant: str
    limits: DownloadLimits = DEFAULT_LIMITS


class DownloadError(Exception):
    """No picture. `is_permanent`: another try of the same address is of no use. Never holds an address: it may be signed.

    `public_reason`: the text for the client that named the address; None if the address was not asked.
    """

    def __init__(self, reason: str, *, is_permanent: bool = False, public_reason: str | None = None) -> None:
        super().__init__(reason)
        self.is_permanent = is_permanent
        self.public_reason = public_reason


async def download(
    transport: httpx.AsyncBaseTransport, request: DownloadRequest, open_reservation: OpenReservation
) -> bytes:
    """DownloadError says why not."""
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
        failure = DownloadError(type(error).__name__, public_reason="it did not come in time")
    except ResponseUnreadable as error:
        failure = DownloadError(type(error).__name__)
    # Outside of `except`, so that it carries no other error's text along.
    raise failure


async def _follow_redirects(transport: httpx.AsyncBaseTransport, request: DownloadRequest) -> httpx.Response:
    """The first answer that leads no further. Every address on the way is checked as the first was."""
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
