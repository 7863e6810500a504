"""One exchange with a seller, whose failure is classified: either nothing has left, or nobody can tell."""

import asyncio
from typing import Protocol, Self

import httpx
from msgspec import Struct

from gateway.catalogue import Seller
from gateway.config.proxies import Proxy
from gateway.upstream.bodies import AnswerUnreadable, headers_of, read_whole, stream_of
from gateway.upstream.budget import ByteBudget
from gateway.upstream.composing import Unsendable, compose
from gateway.upstream.download import DEFAULT_LIMITS, DownloadLimits, download
from gateway.upstream.transport import DEFAULT_CONNECT_SECONDS, Journey, Ways
from providers.faults import Fault, FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call

_NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Exchange(Struct, frozen=True):
    """What one exchange may take. `fresh`: over a connection of its own, for orders that must not be sent twice;
    one that was kept alive may be dead, and then nobody can tell whether the order arrived."""

    seconds: float
    connect_seconds: float = DEFAULT_CONNECT_SECONDS
    most_bytes: int = 32 << 20
    fresh: bool = False


class WaysOut(Protocol):
    """What `Ways` is; tests may bring another."""

    def way(self, *, private: bool, fresh: bool, proxy: Proxy | None = None) -> httpx.AsyncBaseTransport: ...

    async def aclose(self) -> None: ...


class Upstream:
    """To be made where an event loop runs, once per process, and closed."""

    def __init__(self, ways: WaysOut | None = None, budget: ByteBudget | None = None) -> None:
        self._ways: WaysOut = ways or Ways()
        self.budget = budget or ByteBudget()

    async def perform(self, call: Call, seller: Seller, exchange: Exchange) -> Answer | Unanswered:
        """Raises nothing but the caller's own cancellation."""
        journey, account = Journey(), seller.account
        try:
            request, size = compose(call, seller, journey, exchange.connect_seconds)
        except Unsendable as error:
            return _unanswered(FaultKind.NOT_SENT, error)
        way = self._ways.way(private=account.private, fresh=exchange.fresh, proxy=account.proxy)
        try:
            async with asyncio.timeout(exchange.seconds):
                return await self._exchanged(way, request, size, exchange.most_bytes)
        except TimeoutError as error:
            return _unanswered(FaultKind.LOST if journey.left else FaultKind.NOT_SENT, error)
        except _NOTHING_LEFT as error:
            return _unanswered(FaultKind.NOT_SENT, error)
        except httpx.TransportError as error:
            return _unanswered(FaultKind.LOST, error)
        except AnswerUnreadable as error:
            return _unanswered(FaultKind.UNREADABLE, error)

    async def _exchanged(
        self, way: httpx.AsyncBaseTransport, request: httpx.Request, size: int, most_bytes: int
    ) -> Answer:
        share = self.budget.share()
        try:
            await share.grow(size)
            # Until the transport knows better: one that is not ours may never tell.
            request.extensions["journey"].left = True
            response = await way.handle_async_request(request)
            stream = stream_of(response)
            try:
                # Its order has been taken; while it waits for room for the answer, others may send theirs.
                share.give_back()
                headers = headers_of(response)
                return Answer(response.status_code, headers, await read_whole(stream, headers, most_bytes, share))
            finally:
                await stream.aclose()
        finally:
            share.give_back()

    async def download(
        self, url: str, private: bool, limits: DownloadLimits = DEFAULT_LIMITS, proxy: Proxy | None = None
    ) -> bytes:
        """A picture from wherever a seller put it, through his account's proxy; raises DownloadError."""
        way = self._ways.way(private=private, fresh=False, proxy=proxy)
        return await download(way, url, private, limits, self.budget)

    async def aclose(self) -> None:
        await self._ways.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _unanswered(kind: FaultKind, error: Exception) -> Unanswered:
    """Names only what happened: errors' texts hold addresses, and addresses may hold permissions."""
    happened = str(error) if isinstance(error, httpx.TransportError) else ""
    name = happened if happened.isidentifier() else type(error).__name__
    return Unanswered(fault=Fault(kind=kind, message=name))
