"""Names of hosts looked up: once for all who ask at the same time, remembered for a moment, and shared fairly.

The system's lookup cannot be cancelled: where a name server is silent, it keeps its thread for 10 s and more. So each
counts against the tenant that has caused it until it really ends, and a wait for it has a bound.
"""

import asyncio
import socket
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

from msgspec import Struct

from gateway.upstream.fair_budget import BudgetFull, FairBudget

Lookup = Callable[[str], Awaitable[Sequence[str]]]
Addresses = Sequence[str]

# On whose behalf this task connects: a team, or an account. Lookups are shared fairly among them.
tenant: ContextVar[str] = ContextVar("tenant", default="")
FRESH_SECONDS = 10.0
# For a thread, and for what is known already where no answer comes: RFC 8767 calls them stale.
THREAD_SECONDS, STALE_AFTER_SECONDS = 2.0, 1.0
MAX_REMEMBERED = 1_000
# A name server's own answer, and no trouble in reaching one.
_ANSWERS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class LookupTimeout(OSError):
    """No name server has answered in time."""


class LookupsFull(OSError):
    """Too many names are being looked up already."""


class AllLookupsFull(LookupsFull):
    """Those of other tenants."""


class OwnLookupsFull(LookupsFull):
    """This tenant's own."""


class LookupLimits(Struct, frozen=True):
    """How many names are looked up at once, for all tenants and for each; how long a caller waits for an answer
    (None: as long as it may take to connect); and for how long known addresses stand in for an answer that does not
    come."""

    at_once: int
    per_tenant: int
    seconds: float | None = None
    stale_seconds: float = 0.0


class _Known(Struct):
    """`fresh_until` is put off where no answer comes: a silent name server is not asked all the time."""

    addresses: Addresses
    fresh_until: float
    stale_until: float


class HostLookup:
    """`lookup`: how a name is looked up that is not known yet."""

    def __init__(self, lookup: Lookup, limits: LookupLimits) -> None:
        self._lookup, self._limits = lookup, limits
        self._threads = FairBudget(limits.at_once, limits.per_tenant)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._running: dict[str, asyncio.Task[Addresses]] = {}

    async def __call__(self, host: str) -> Addresses:
        """OSError if there are none: socket.gaierror, LookupTimeout or LookupsFull."""
        known, now = self._known.get(host), _now()
        if known is None or now >= known.stale_until:
            return await self._found(host, self._limits.seconds)
        if now < known.fresh_until:
            return known.addresses
        try:
            return await self._found(host, STALE_AFTER_SECONDS)
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno in _ANSWERS:
                raise
            known.fresh_until = _now() + FRESH_SECONDS
            return known.addresses

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _found(self, host: str, seconds: float | None) -> Addresses:
        """A caller that stops waiting does not stop a lookup that others may wait for."""
        running = self._running.get(host) or await self._start(host)
        if running is None:
            return self._known[host].addresses
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(running)
        except TimeoutError:
            raise LookupTimeout from None

    async def _start(self, host: str) -> "asyncio.Task[Addresses] | None":
        """None if its addresses came while this waited for a thread."""
        who = tenant.get()
        try:
            await self._threads.acquire(who, THREAD_SECONDS)
        except BudgetFull as full:
            raise OwnLookupsFull if full.is_own else AllLookupsFull from None
        running, known = self._running.get(host), self._known.get(host)
        if running is not None or (known is not None and _now() < known.fresh_until):
            self._threads.release(who)
            return running
        task = self._running[host] = asyncio.create_task(self._look_up(host))
        task.add_done_callback(lambda task: self._ended(host, who, task))
        return task

    async def _look_up(self, host: str) -> Addresses:
        addresses, now = await self._lookup(host), _now()
        self._known[host] = _Known(addresses, now + FRESH_SECONDS, now + max(FRESH_SECONDS, self._limits.stale_seconds))
        self._known.move_to_end(host)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return addresses

    def _ended(self, host: str, who: str, task: "asyncio.Task[Addresses]") -> None:
        del self._running[host]
        self._threads.release(who)
        if not task.cancelled():
            # Retrieved here, since no caller may be waiting any more.
            task.exception()


def _now() -> float:
    return asyncio.get_running_loop().time()


class SystemLookup:
    """Looks names up with the system's resolver, in threads that do not delay the end of the process."""

    async def __call__(self, host: str) -> Addresses:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Addresses] = loop.create_future()
        threading.Thread(target=_answer, args=(host, loop, answer), name="lookup", daemon=True).start()
        return await answer


def _answer(host: str, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Addresses]") -> None:
    try:
        found: Addresses | OSError = _addresses(host)
    except OSError as error:
        found = error
    try:
        loop.call_soon_threadsafe(_settle, answer, found)
    except RuntimeError:
        # The loop is closed, and the caller with it.
        return


def _settle(answer: "asyncio.Future[Addresses]", found: Addresses | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _addresses(host: str) -> Addresses:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        # What cannot even be written in a question to a name server.
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
