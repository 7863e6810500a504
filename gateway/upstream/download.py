"""Pictures, fetched from wherever they were put: any public address, and never with credentials of ours."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
from msgspec import Struct

from gateway.upstream.bodies import AnswerTooLarge, AnswerUnreadable, headers_of, read_whole, stream_of
from gateway.upstream.budget import Room
from gateway.upstream.composing import USER_AGENT, Unsendable, whole_address

_REDIRECTS = {301, 302, 303, 307, 308}
_GONE = {400, 401, 403, 404, 410, 451}
# What connecting calls an address that we never connect to, however often we try.
_HOPELESS = {"AddressRefused", "InvalidUrlClientError"}


class DownloadLimits(Struct, frozen=True):
    """`seconds` for everything, redirects included, but for the time in which we have no room for it."""

    most_bytes: int = 64 << 20
    seconds: float = 60.0
    redirects: int = 3


DEFAULT_LIMITS = DownloadLimits()
# Errors of names that are not looked up in time, in words for the client that named them.
_SILENT = {"LookupTimeout": "its host name could not be resolved in time"}
# Room for a picture, whose clock stands still while it waits for it.
Rooms = Callable[[asyncio.Timeout], AbstractContextManager[Room]]


class Wanted(Struct, frozen=True):
    """`private`: whether it may be in our own network; else https to public addresses only. `tenant`: the team or
    account that lookups are counted against."""

    url: str
    private: bool
    tenant: str
    limits: DownloadLimits = DEFAULT_LIMITS


class DownloadError(Exception):
    """No picture. `gone`: another try of the same address is of no use. Never holds an address: it may be signed.

    `public_reason`: the text for the client that named the address; None if the address was not asked.
    """

    def __init__(self, reason: str, *, gone: bool = False, public_reason: str | None = None) -> None:
        super().__init__(reason)
        self.gone = gone
        self.public_reason = public_reason


async def download(way: httpx.AsyncBaseTransport, wanted: Wanted, rooms: Rooms) -> bytes:
    """DownloadError says why not."""
    failure: DownloadError
    limits = wanted.limits
    try:
        async with asyncio.timeout(limits.seconds) as limit:
            response = await _followed(way, wanted)
            stream = stream_of(response)
            try:
                with rooms(limit) as room:
                    _judge(response.status_code)
                    return await read_whole(stream, headers_of(response), limits.most_bytes, room)
            finally:
                await stream.aclose()
    except DownloadError as error:
        failure = error
    except Unsendable as error:
        failure = DownloadError(type(error).__name__, gone=True)
    except AnswerTooLarge as error:
        public_reason = f"it is larger than {limits.most_bytes >> 20} MiB"
        failure = DownloadError(type(error).__name__, gone=True, public_reason=public_reason)
    except httpx.TransportError as error:
        failure = DownloadError(str(error), gone=str(error) in _HOPELESS, public_reason=_SILENT.get(str(error)))
    except TimeoutError as error:
        failure = DownloadError(type(error).__name__, public_reason="it did not come in time")
    except AnswerUnreadable as error:
        failure = DownloadError(type(error).__name__)
    # Outside of `except`, so that it carries no other error's text along.
    raise failure


async def _followed(way: httpx.AsyncBaseTransport, wanted: Wanted) -> httpx.Response:
    """The first answer that leads no further. Every address on the way is checked as the first was."""
    address = whole_address(wanted.url, wanted.private)
    for _ in range(wanted.limits.redirects + 1):
        response = await way.handle_async_request(_asking(address, wanted.tenant))
        if response.status_code not in _REDIRECTS:
            return response
        await stream_of(response).aclose()
        address = whole_address(_target(address, response.headers.get("location", "")), wanted.private)
    raise DownloadError("too many redirects")


def _asking(address: httpx.URL, tenant: str) -> httpx.Request:
    headers = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
    return httpx.Request("GET", address, headers=headers, extensions={"tenant": tenant})


def _target(address: httpx.URL, location: str) -> str:
    try:
        return str(address.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""


def _judge(status: int) -> None:
    if status != httpx.codes.OK:
        public_reason = f"its server answered with status {status}"
        raise DownloadError(f"status {status}", gone=status in _GONE, public_reason=public_reason)
