"""Input images that clients name by their links: fetched within what is there for such links alone, fairly by team.

Whatever a link leads to (a name server that is silent, a server that drips, pictures as large as they may be), it takes
up its own team's share, and nothing that orders or sellers' links need.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from gateway.upstream.budget import SMALL_BYTES
from gateway.upstream.client import WaysOut
from gateway.upstream.download import DownloadError, DownloadLimits, Wanted, download
from gateway.upstream.fair_budget import BudgetFull, FairBudget
from gateway.upstream.host_lookup import AllLookupsFull, OwnLookupsFull
from gateway.upstream.transport import LOOKUPS, HostSource

INPUT_LIMITS = DownloadLimits(most_bytes=50 << 20, seconds=30.0)
# For all links of one request.
REQUEST_SECONDS = 60.0
# At once: of all teams, and of one. A team that is alone has enough of it; of many, each soon gets a first one, since
# the team that holds least is next.
MAX_DOWNLOADS, MAX_TEAM_DOWNLOADS = 128, 32
MAX_BYTES, MAX_TEAM_BYTES = 256 << 20, 128 << 20
# For any of these. A team that has used up its own gets the error before its client times out.
WAIT_SECONDS = 5.0
_LOOKUPS_FULL = {AllLookupsFull.__name__: False, OwnLookupsFull.__name__: True}


class FetchRefused(Exception):
    """`limit` says how much of what is being fetched already: by the team itself (`is_own`), or by all of them."""

    def __init__(self, limit: str, *, is_own: bool) -> None:
        super().__init__(limit)
        self.limit, self.is_own = limit, is_own


class InputsTooLarge(Exception):
    """The links of one request lead to more than all its team may have in memory."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("inputs too large")
        self.max_bytes = max_bytes


class InputFetcher:
    """Of one process. `private`: whether links may lead into our own network."""

    def __init__(self, ways: WaysOut, *, private: bool = False) -> None:
        # Hosts that clients name come once, most of them: connections that wait for them would only pile up.
        self._way = ways.way(private=private, fresh=True, source=HostSource.CLIENT)
        self._private = private
        self.downloads = FairBudget(MAX_DOWNLOADS, MAX_TEAM_DOWNLOADS)
        self.memory = FairBudget(MAX_BYTES, MAX_TEAM_BYTES)

    @contextmanager
    def request(self, team: str) -> "Iterator[RequestInputs]":
        """What the block fetches counts as held until it ends."""
        inputs = RequestInputs(self, team)
        try:
            yield inputs
        finally:
            inputs.release()

    async def download(self, url: str, seconds: float, team: str, room: "_Room") -> bytes:
        wanted = Wanted(url, self._private, team, replace(INPUT_LIMITS, seconds=seconds))
        await self._acquire(self.downloads, team, 1)
        try:
            return await download(self._way, wanted, lambda _: nullcontext(room))
        except DownloadError as error:
            if (is_own := _LOOKUPS_FULL.get(str(error))) is None:
                raise
            lookups = LOOKUPS[HostSource.CLIENT]
            limit = f"{lookups.per_tenant if is_own else lookups.at_once} lookups of host names"
            raise FetchRefused(limit, is_own=is_own) from None
        finally:
            self.downloads.release(team)

    async def hold(self, team: str, size: int) -> None:
        await self._acquire(self.memory, team, size)

    async def _acquire(self, budget: FairBudget, team: str, amount: int) -> None:
        try:
            await budget.acquire(team, WAIT_SECONDS, amount)
        except BudgetFull as full:
            most = budget.per_tenant if full.is_own else budget.total
            limit = f"{most} downloads" if budget is self.downloads else f"{most >> 20} MiB"
            raise FetchRefused(f"{limit} of input images", is_own=full.is_own) from None


class RequestInputs:
    """One request's."""

    def __init__(self, fetcher: InputFetcher, team: str) -> None:
        self._fetcher, self._team = fetcher, team
        self._ends = monotonic() + REQUEST_SECONDS
        self.held = 0

    async def fetch(self, url: str) -> bytes:
        """DownloadError, FetchRefused or InputsTooLarge."""
        seconds = min(INPUT_LIMITS.seconds, self._ends - monotonic())
        if seconds <= 0:
            raise DownloadError("too late", public_reason="it did not come in time")
        room = _Room(self)
        data = await self._fetcher.download(url, seconds, self._team, room)
        room.shrink(len(data))
        return data

    async def hold(self, more: int) -> None:
        if self.held + more > self._fetcher.memory.per_tenant:
            raise InputsTooLarge(self._fetcher.memory.per_tenant)
        await self._fetcher.hold(self._team, more)
        self.held += more

    def release(self, size: int | None = None) -> None:
        """So many bytes, or all."""
        size = self.held if size is None else size
        if size:
            self._fetcher.memory.release(self._team, size)
            self.held -= size


class _Room(Struct):
    """One image's memory. It is held until its request has become a job."""

    inputs: RequestInputs
    size: int = SMALL_BYTES
    # Four at once must not fill the request's part with what they take ahead.
    max_step: int = 1 << 20

    async def grow(self, size: int) -> None:
        if size > self.size:
            await self.inputs.hold(size - self.size)
            self.size = size

    def shrink(self, size: int) -> None:
        """What was taken ahead."""
        if self.size > max(size, SMALL_BYTES):
            self.inputs.release(self.size - max(size, SMALL_BYTES))
            self.size = max(size, SMALL_BYTES)
