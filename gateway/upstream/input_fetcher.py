"""Fetches input images from URLs in requests of clients. Has its own limits, which teams share fairly.

A URL with a silent name server, a slow server or very large images occupies only the share of its own team. Orders and
the URLs of sellers are not affected.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic

from msgspec import Struct

from gateway.memory_budget import SMALL_BODY_BYTES
from gateway.timeouts_and_intervals import InputTiming
from gateway.upstream.dns_lookup import TenantLookupLimitReached, TotalLookupLimitReached
from gateway.upstream.download import DownloadError, DownloadLimits, DownloadRequest, download
from gateway.upstream.tenant_fair_semaphore import SemaphoreFull, TenantFairSemaphore
from gateway.upstream.transport_pool import LOOKUP_LIMITS, HostSource, TransportOptions, TransportPoolProtocol

# Concurrent downloads of all teams and of one team. These are enough for a single team. With many teams, each soon
# gets its first download, since the team that holds least is served next.
MAX_DOWNLOADS, MAX_TEAM_DOWNLOADS = 128, 32
MAX_BYTES, MAX_TEAM_BYTES = 256 << 20, 128 << 20
_IS_OWN_LOOKUP_LIMIT = {TotalLookupLimitReached.__name__: False, TenantLookupLimitReached.__name__: True}


class FetchLimitReached(Exception):
    """A limit on concurrent fetches is reached. `limit` names it; `is_own`: whether it is the team's own."""

    def __init__(self, limit: str, *, is_own: bool) -> None:
        super().__init__(limit)
        self.limit, self.is_own = limit, is_own


class InputsTooLarge(Exception):
    """The input images of one request are larger than the share of memory of its team."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("input images too large")
        self.max_bytes = max_bytes


class InputFetcher:
    """Fetches images for one process. `private`: whether URLs may lead into the network of the operator."""

    def __init__(
        self, transport_pool: TransportPoolProtocol, timing: InputTiming = InputTiming(), *, private: bool = False
    ) -> None:
        self.timing = timing
        # Most hosts in clients' URLs are used once: idle connections to them would pile up.
        self._transport = transport_pool.get(
            TransportOptions(private=private, fresh_connection=True, source=HostSource.CLIENT)
        )
        self._private = private
        self.downloads = TenantFairSemaphore(MAX_DOWNLOADS, MAX_TEAM_DOWNLOADS)
        self.memory = TenantFairSemaphore(MAX_BYTES, MAX_TEAM_BYTES)

    @contextmanager
    def open_request(self, team: str) -> "Iterator[RequestInputs]":
        """Opens the inputs of one request. Their memory is held until the block ends."""
        inputs = RequestInputs(self, team)
        try:
            yield inputs
        finally:
            inputs.release()

    async def download(self, url: str, timeout_seconds: float, team: str, reservation: "_ImageReservation") -> bytes:
        limits = DownloadLimits(max_bytes=self.timing.max_image_bytes, timeout_seconds=timeout_seconds)
        request = DownloadRequest(url, self._private, team, limits)
        await self._acquire(self.downloads, team, 1)
        try:
            return await download(self._transport, request, lambda _: nullcontext(reservation))
        except DownloadError as error:
            if (is_own := _IS_OWN_LOOKUP_LIMIT.get(str(error))) is None:
                raise
            lookups = LOOKUP_LIMITS[HostSource.CLIENT]
            limit = f"{lookups.max_per_tenant if is_own else lookups.max_total} lookups of host names"
            raise FetchLimitReached(limit, is_own=is_own) from None
        finally:
            self.downloads.release(team)

    async def reserve_memory(self, team: str, size: int) -> None:
        await self._acquire(self.memory, team, size)

    async def _acquire(self, semaphore: TenantFairSemaphore, team: str, amount: int) -> None:
        try:
            await semaphore.acquire(team, self.timing.queue_timeout_seconds, amount)
        except SemaphoreFull as error:
            maximum = semaphore.max_per_tenant if error.is_own else semaphore.max_total
            limit = f"{maximum} downloads" if semaphore is self.downloads else f"{maximum >> 20} MiB"
            raise FetchLimitReached(f"{limit} of input images", is_own=error.is_own) from None


class RequestInputs:
    """The input images of one request. They are fetched by URL, and their memory is held until `release`.

    `fetch_seconds`: from the start of the first fetch to the end of the last. They are concurrent.
    """

    def __init__(self, fetcher: InputFetcher, team: str) -> None:
        self._fetcher, self._team = fetcher, team
        self._deadline = monotonic() + fetcher.timing.request_timeout_seconds
        self.held_bytes, self.fetch_seconds = 0, 0.0
        self._first_fetch_at: float | None = None
        self.max_image_bytes = fetcher.timing.max_image_bytes

    async def fetch(self, url: str) -> bytes:
        """Fetches one image. Raises DownloadError, FetchLimitReached or InputsTooLarge."""
        timeout_seconds = min(self._fetcher.timing.download_timeout_seconds, self._deadline - monotonic())
        if timeout_seconds <= 0:
            raise DownloadError("request timeout", public_reason="it did not arrive in time")
        reservation = _ImageReservation(self)
        self._first_fetch_at = self._first_fetch_at or monotonic()
        data = await self._fetcher.download(url, timeout_seconds, self._team, reservation)
        self.fetch_seconds = monotonic() - self._first_fetch_at
        reservation.shrink(len(data))
        return data

    async def reserve(self, more_bytes: int) -> None:
        if self.held_bytes + more_bytes > self._fetcher.memory.max_per_tenant:
            raise InputsTooLarge(self._fetcher.memory.max_per_tenant)
        await self._fetcher.reserve_memory(self._team, more_bytes)
        self.held_bytes += more_bytes

    def release(self, size: int | None = None) -> None:
        """Releases `size` bytes, by default all."""
        size = self.held_bytes if size is None else size
        if size:
            self._fetcher.memory.release(self._team, size)
            self.held_bytes -= size


class _ImageReservation(Struct):
    """The memory of one image, held until its request has become a job."""

    inputs: RequestInputs
    reserved_bytes: int = SMALL_BODY_BYTES
    # The first reservation is small, so that four concurrent images do not fill the team's share before they arrive.
    max_step_bytes: int = 1 << 20

    async def grow_to(self, size: int) -> None:
        if size > self.reserved_bytes:
            await self.inputs.reserve(size - self.reserved_bytes)
            self.reserved_bytes = size

    def shrink(self, size: int) -> None:
        """Releases the memory that was reserved beyond `size`."""
        if self.reserved_bytes > max(size, SMALL_BODY_BYTES):
            self.inputs.release(self.reserved_bytes - max(size, SMALL_BODY_BYTES))
            self.reserved_bytes = max(size, SMALL_BODY_BYTES)
