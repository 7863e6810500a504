"""One exchange with a seller, whose failure is classified: either nothing has left, or nobody can tell."""

import asyncio
from typing import Protocol, Self

import httpx
from msgspec import Struct

from gateway.catalogue import Seller
from gateway.config.proxies import Proxy
from gateway.upstream.bodies import AnswerUnreadable, headers_of, read_whole, stream_of
from gateway.upstream.budget import ByteBudget, Share
from gateway.upstream.composing import Unsendable, compose
from gateway.upstream.download import DEFAULT_LIMITS, DownloadLimits, Wanted, download
from gateway.upstream.transport import DEFAULT_CONNECT_SECONDS, HostSource, Journey, Ways
from providers.faults import Fault, FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call

_NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)


class Exchange(Struct, frozen=True):
    """What one exchange may take. `seconds` from its first step outside to the answer's last byte, but for the time in
    which we have no room for the answer; `room_seconds` before that, for room among the large bodies that are being
    sent. `fresh`: over a connection of its own, for orders that must not be sent twice; one that was kept alive may be
    dead, and then nobody can tell whether the order arrived."""

    seconds: float
    connect_seconds: float = DEFAULT_CONNECT_SECONDS
    most_bytes: int = 32 << 20
    fresh: bool = False
    room_seconds: float = 60.0


class WaysOut(Protocol):
    """What `Ways` is; tests may bring another."""

    def way(
        self, *, private: bool, fresh: bool, proxy: Proxy | None = None, source: HostSource = HostSource.OPERATOR
    ) -> httpx.AsyncBaseTransport: ...

    async def aclose(self) -> None: ...


class Upstream:
    """To be made where an event loop runs, once per process, and closed.

    What is sent to a host that a seller has named, or fetched from one, takes nothing that orders need: neither
    connections and lookups, nor memory.
    """

    def __init__(self, ways: WaysOut | None = None, budget: ByteBudget | None = None) -> None:
        self.ways: WaysOut = ways or Ways()
        self.budget = budget or ByteBudget()
        self.link_budget = ByteBudget(self.budget.total)

    async def perform(self, call: Call, seller: Seller, exchange: Exchange) -> Answer | Unanswered:
        """Raises nothing but the caller's own cancellation."""
        journey, account = Journey(), seller.account
        try:
            request, body = compose(call, seller, journey, exchange.connect_seconds)
        except Unsendable as error:
            return _unanswered(FaultKind.NOT_SENT, error)
        source = HostSource.SELLER if call.presigned else HostSource.OPERATOR
        way = self.ways.way(private=account.private, fresh=exchange.fresh, proxy=account.proxy, source=source)
        budget = self.link_budget if call.presigned else self.budget
        with budget.share_to_send() as share:
            body.when_written = share.give_back
            if not await _has_room(share, body.size, exchange.room_seconds):
                return Unanswered(fault=Fault(kind=FaultKind.NO_ROOM))
            return await _exchanged(way, request, share, exchange)

    async def download(
        self,
        url: str,
        private: bool,
        limits: DownloadLimits = DEFAULT_LIMITS,
        proxy: Proxy | None = None,
        account: str = "",
    ) -> bytes:
        """A picture from wherever a seller put it, through his account's proxy; raises DownloadError."""
        way = self.ways.way(private=private, fresh=False, proxy=proxy, source=HostSource.SELLER)
        return await download(way, Wanted(url, private, account, limits), self.link_budget.share)

    async def aclose(self) -> None:
        await self.ways.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _exchanged(
    way: httpx.AsyncBaseTransport, request: httpx.Request, sent: Share, exchange: Exchange
) -> Answer | Unanswered:
    journey = request.extensions["journey"]
    try:
        async with asyncio.timeout(exchange.seconds) as limit:
            # Until the transport says otherwise: a foreign one may never do so.
            journey.left = True
            response = await way.handle_async_request(request)
            # Its order has been taken, or refused unread; while the answer waits for room, others may send theirs.
            sent.give_back()
            return await _read(response, exchange.most_bytes, sent.budget.share(limit))
    except TimeoutError as error:
        return _unanswered(_kind_of_late(journey), error)
    except httpx.PoolTimeout as error:
        return _unanswered(FaultKind.NO_ROOM, error)
    except _NOTHING_LEFT as error:
        return _unanswered(FaultKind.NOT_SENT, error)
    except httpx.TransportError as error:
        return _unanswered(FaultKind.LOST, error)
    except AnswerUnreadable as error:
        return _unanswered(FaultKind.UNREADABLE, error)


def _kind_of_late(journey: Journey) -> FaultKind:
    if journey.left:
        return FaultKind.LOST
    return FaultKind.NO_ROOM if journey.is_queued else FaultKind.NOT_SENT


async def _read(response: httpx.Response, most_bytes: int, share: Share) -> Answer:
    stream = stream_of(response)
    try:
        with share:
            headers = headers_of(response)
            return Answer(response.status_code, headers, await read_whole(stream, headers, most_bytes, share))
    finally:
        await stream.aclose()


async def _has_room(share: Share, size: int, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await share.grow(size)
    except TimeoutError:
        return False
    return True


def _unanswered(kind: FaultKind, error: Exception) -> Unanswered:
    """Names only what happened: errors' texts hold addresses, and addresses may hold permissions."""
    happened = str(error) if isinstance(error, httpx.TransportError) else ""
    name = happened if happened.isidentifier() else type(error).__name__
    return Unanswered(fault=Fault(kind=kind, message=name))
