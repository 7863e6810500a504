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

from gateway.upstream.fair_semaphore import FairSemaphore, SemaphoreFull

Lookup = Callable[[str], Awaitable[Sequence[str]]]
Addresses = Sequence[str]

# On whose behalf this task connects: a team, or an account. Lookups are shared fairly among them.
current_tenant: ContextVar[str] = ContextVar("current_tenant", default="")
CACHE_TTL_SECONDS = 10.0
# For a thread, and for what is known already where no answer comes: RFC 8767 calls them stale.
THREAD_WAIT_SECONDS, STALE_WAIT_SECONDS = 2.0, 1.0
MAX_CACHED_HOSTS = 1_000
# A name server's own answer, and no trouble in reaching one.
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class LookupTimeout(OSError):
    """No name server has answered in time."""


class LookupLimitReached(OSError):
    """Too many names are being looked up already."""


class TotalLookupLimitReached(LookupLimitReached):
    """Those of other tenants."""


class TenantLookupLimitReached(LookupLimitReached):
    """This tenant's own."""


class LookupLimits(Struct, frozen=True):
    """How many names are looked up at once, for all tenants and for each; how long a caller waits for an answer
    (None: as long as it may take to connect); and for how long known addresses stand in for an answer that does not
    come."""

    max_total: int
    max_per_tenant: int
    timeout_seconds: float | None = None
    stale_seconds: float = 0.0


class _CachedAddresses(Struct):
    """`fresh_until` is put off where no answer comes: a silent name server is not asked all the time."""

    addresses: Addresses
    fresh_until: float
    stale_until: float


class HostLookup:
    """`lookup`: how a name is looked up that is not known yet."""

    def __init__(self, lookup: Lookup, limits: LookupLimits) -> None:
        self._lookup, self._limits = lookup, limits
        self._thread_slots = FairSemaphore(limits.max_total, limits.max_per_tenant)
        self._cache: OrderedDict[str, _CachedAddresses] = OrderedDict()
        self._running: dict[str, asyncio.Task[Addresses]] = {}

    async def __call__(self, host: str) -> Addresses:
        """OSError if there are none: socket.gaierror, LookupTimeout or LookupsFull."""
        cached, now = self._cache.get(host), _get_loop_time()
        if cached is None or now >= cached.stale_until:
            return await self._await_lookup(host, self._limits.timeout_seconds)
        if now < cached.fresh_until:
            return cached.addresses
        try:
            return await self._await_lookup(host, STALE_WAIT_SECONDS)
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST:
                raise
            cached.fresh_until = _get_loop_time() + CACHE_TTL_SECONDS
            return cached.addresses

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _await_lookup(self, host: str, timeout_seconds: float | None) -> Addresses:
        """A caller that stops waiting does not stop a lookup that others may wait for."""
        running = self._running.get(host) or await self._start_lookup(host)
        if running is None:
            return self._cache[host].addresses
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(running)
        except TimeoutError:
            raise LookupTimeout from None

    async def _start_lookup(self, host: str) -> "asyncio.Task[Addresses] | None":
        """None if its addresses came while this waited for a thread."""
        tenant = current_tenant.get()
        try:
            await self._thread_slots.acquire(tenant, THREAD_WAIT_SECONDS)
        except SemaphoreFull as error:
            raise TenantLookupLimitReached if error.is_own else TotalLookupLimitReached from None
        running, cached = self._running.get(host), self._cache.get(host)
        if running is not None or (cached is not None and _get_loop_time() < cached.fresh_until):
            self._thread_slots.release(tenant)
            return running
        task = self._running[host] = asyncio.create_task(self._run_lookup(host))
        task.add_done_callback(lambda task: self._finish_lookup(host, tenant, task))
        return task

    async def _run_lookup(self, host: str) -> Addresses:
        addresses, now = await self._lookup(host), _get_loop_time()
        self._cache[host] = _CachedAddresses(
            addresses, now + CACHE_TTL_SECONDS, now + max(CACHE_TTL_SECONDS, self._limits.stale_seconds)
        )
        self._cache.move_to_end(host)
        if len(self._cache) > MAX_CACHED_HOSTS:
            self._cache.popitem(last=False)
        return addresses

    def _finish_lookup(self, host: str, tenant: str, task: "asyncio.Task[Addresses]") -> None:
        del self._running[host]
        self._thread_slots.release(tenant)
        if not task.cancelled():
            # Retrieved here, since no caller may be waiting any more.
            task.exception()


def _get_loop_time() -> float:
    return asyncio.get_running_loop().time()


class SystemLookup:
    """Looks names up with the system's resolver, in threads that do not delay the end of the process."""

    async def __call__(self, host: str) -> Addresses:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Addresses] = loop.create_future()
        threading.Thread(target=_resolve_in_thread, args=(host, loop, future), name="lookup", daemon=True).start()
        return await future


def _resolve_in_thread(host: str, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Addresses]") -> None:
    try:
        result: Addresses | OSError = _get_addresses(host)
    except OSError as error:
        result = error
    try:
        loop.call_soon_threadsafe(_set_result, future, result)
    except RuntimeError:
        # The loop is closed, and the caller with it.
        return


def _set_result(future: "asyncio.Future[Addresses]", result: Addresses | OSError) -> None:
    if future.done():
        return
    if isinstance(result, OSError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _get_addresses(host: str) -> Addresses:
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        # What cannot even be written in a question to a name server.
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))
