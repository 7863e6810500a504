"""DNS lookups: shared by concurrent callers, cached for a short time, limited fairly per tenant.

A lookup of the system resolver cannot be cancelled: if a name server is silent, it occupies its thread for 10 s or
more. So each lookup counts against its tenant until it really ends, and callers wait for it only for a limited time.
"""

import asyncio
import socket
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar

from msgspec import Struct

from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream.tenant_fair_semaphore import SemaphoreFull, TenantFairSemaphore

Lookup = Callable[[str], Awaitable[Sequence[str]]]
Addresses = Sequence[str]

# The tenant (team or account) of the current task. Lookups are shared fairly among tenants.
current_tenant: ContextVar[str] = ContextVar("current_tenant", default="")
MAX_CACHED_HOSTS = 1_000
# Errors that a name server answered. All others are failures to reach it.
_NO_SUCH_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class LookupTimeout(OSError):
    """No name server answered in time."""


class LookupLimitReached(OSError):
    """Too many lookups are running already."""


class TotalLookupLimitReached(LookupLimitReached):
    """The limit for all tenants is reached."""


class TenantLookupLimitReached(LookupLimitReached):
    """This tenant's limit is reached."""


class LookupLimits(Struct, frozen=True):
    """How many lookups may run at the same time, in total and for each tenant.

    `timeout_seconds`: how long a caller waits for an answer; None: until its connect timeout. `stale_seconds`: how long
    cached addresses may be used if no answer arrives.
    """

    max_total: int
    max_per_tenant: int
    timeout_seconds: float | None = None
    stale_seconds: float = 0.0


class _CachedAddresses(Struct):
    """Cached addresses of a host. If no answer arrives, `fresh_until` is postponed, so that a silent name server is not
    asked again at once."""

    addresses: Addresses
    fresh_until: float
    stale_until: float


class DnsLookup:
    """Resolves host names, with a cache. `lookup` resolves names that are not cached."""

    def __init__(self, lookup: Lookup, limits: LookupLimits, timing: ConnectionTiming = ConnectionTiming()) -> None:
        self._lookup, self._limits, self._timing = lookup, limits, timing
        self._thread_slots = TenantFairSemaphore(limits.max_total, limits.max_per_tenant)
        self._cache: OrderedDict[str, _CachedAddresses] = OrderedDict()
        self._running: dict[str, asyncio.Task[Addresses]] = {}

    async def __call__(self, host: str) -> Addresses:
        """Returns the addresses of a host. Raises OSError: socket.gaierror, LookupTimeout or LookupLimitReached."""
        cached, now = self._cache.get(host), _get_loop_time()
        if cached is None or now >= cached.stale_until:
            return await self._await_lookup(host, self._limits.timeout_seconds)
        if now < cached.fresh_until:
            return cached.addresses
        try:
            return await self._await_lookup(host, self._timing.stale_lookup_timeout_seconds)
        except OSError as error:
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST:
                raise
            cached.fresh_until = _get_loop_time() + self._timing.lookup_cache_ttl_seconds
            return cached.addresses

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _await_lookup(self, host: str, timeout_seconds: float | None) -> Addresses:
        """Waits for a lookup. If a caller stops waiting, the lookup continues, since other callers may wait for it."""
        running = self._running.get(host) or await self._start_lookup(host)
        if running is None:
            return self._cache[host].addresses
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.shield(running)
        except TimeoutError:
            raise LookupTimeout from None

    async def _start_lookup(self, host: str) -> "asyncio.Task[Addresses] | None":
        """Returns the running lookup, or None if its addresses arrived during the wait for a thread."""
        tenant = current_tenant.get()
        try:
            await self._thread_slots.acquire(tenant, self._timing.lookup_thread_timeout_seconds)
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
        ttl_seconds = self._timing.lookup_cache_ttl_seconds
        self._cache[host] = _CachedAddresses(
            addresses, now + ttl_seconds, now + max(ttl_seconds, self._limits.stale_seconds)
        )
        self._cache.move_to_end(host)
        if len(self._cache) > MAX_CACHED_HOSTS:
            self._cache.popitem(last=False)
        return addresses

    def _finish_lookup(self, host: str, tenant: str, task: "asyncio.Task[Addresses]") -> None:
        del self._running[host]
        self._thread_slots.release(tenant)
        if not task.cancelled():
            # Retrieves the exception, since perhaps no caller is waiting any more.
            task.exception()


def _get_loop_time() -> float:
    return asyncio.get_running_loop().time()


class SystemResolver:
    """Resolves names with the system resolver, in threads that do not delay the exit of the process."""

    async def __call__(self, host: str) -> Addresses:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Addresses] = loop.create_future()
        threading.Thread(target=_resolve_in_thread, args=(host, loop, future), name="dns-lookup", daemon=True).start()
        return await future


def _resolve_in_thread(host: str, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Addresses]") -> None:
    try:
        result: Addresses | OSError = _get_addresses(host)
    except OSError as error:
        result = error
    try:
        loop.call_soon_threadsafe(_set_result, future, result)
    except RuntimeError:
        # The event loop is closed.
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
        # The name cannot be encoded for DNS.
        raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))
