"""Rate limits of teams and API keys: requests and images a minute, and concurrent jobs.

Each replica counts what it admits, and publishes its counts every second. Between two reads of the others' counts, a
replica admits at most its share of what is left. So no request waits for the store.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import ceil, floor, inf
from typing import Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from gateway.config.schema import RateLimits

WINDOW_SECONDS, BUCKET_SECONDS = 60.0, 5
# A replica that published nothing for this long gets no share. Its requests still count within the minute.
REPLICA_TTL_SECONDS = 5.0
# The wait for the counts of other replicas, and for the end of a job.
SHARE_RETRY_SECONDS, JOB_RETRY_SECONDS = 2, 5
MAX_RETRY_SECONDS = 120
# If batches may use all places of an owner, as with a limit of 1, they leave a free place for so long to an interactive
# request that was refused because of them.
BATCH_PAUSE_SECONDS = 60.0
SIGNAL_PREFIX = "limits:"

Dimension = Literal["requests", "images", "jobs"]
DIMENSIONS: tuple[Dimension, ...] = ("requests", "images", "jobs")
BATCH_JOBS: Literal["batch_jobs"] = "batch_jobs"


class LimitedOwner(Struct, frozen=True):
    """A team or an API key, as in `team:design`, with its limits."""

    name: str
    limits: RateLimits

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    def get_limit(self, dimension: Dimension) -> int | None:
        match dimension:
            case "requests":
                return self.limits.requests_per_minute
            case "images":
                return self.limits.images_per_minute
            case "jobs":
                return self.limits.concurrent_jobs


def has_limits(limits: RateLimits) -> bool:
    return bool(limits.requests_per_minute or limits.images_per_minute or limits.concurrent_jobs)


class LimitStatus(Struct, frozen=True, kw_only=True):
    """One limit and what is left of it.

    `reset_seconds`: until all of it is left again. `more_seconds`: until more is left than now. Both are 0 for jobs,
    whose end is unknown.
    """

    owner: str
    dimension: Dimension
    limit: int
    remaining: int
    reset_seconds: float = 0.0
    more_seconds: float = 0.0


class RateLimitReached(Exception):
    """A request exceeds a limit. `can_succeed`: whether the same request fits later."""

    def __init__(self, status: LimitStatus, retry_after: int, can_succeed: bool) -> None:
        super().__init__(f"{status.dimension} of {status.owner}")
        self.status, self.retry_after, self.can_succeed = status, retry_after, can_succeed


class SlidingCounts(Struct, array_like=True):
    """The amounts admitted within the last 60 seconds, in buckets of five. A bucket counts until its end is 60 seconds
    old, so no 60 seconds contain more than the limit."""

    buckets: dict[int, int] = {}

    def add(self, amount: int, now: float) -> None:
        bucket = floor(now / BUCKET_SECONDS)
        if bucket not in self.buckets:
            self.buckets = {index: count for index, count in self.buckets.items() if _expires_at(index) > now}
        self.buckets[bucket] = self.buckets.get(bucket, 0) + amount


def _expires_at(bucket: int) -> float:
    return (bucket + 1) * BUCKET_SECONDS + WINDOW_SECONDS


class OwnerCounts(Struct, array_like=True):
    """The amounts that one replica admitted for an owner, and its jobs that have not ended.

    `batch_jobs`: those of batches, which `jobs` does not contain. `refused_at`: when an interactive request was last
    refused because of them; 0 if one was admitted since.
    """

    requests: SlidingCounts = field(default_factory=SlidingCounts)
    images: SlidingCounts = field(default_factory=SlidingCounts)
    jobs: int = 0
    batch_jobs: int = 0
    refused_at: float = 0.0

    def is_idle(self, now: float) -> bool:
        is_used = self.jobs or self.batch_jobs or self.refused_at + BATCH_PAUSE_SECONDS > now
        return not is_used and all(_expires_at(bucket) <= now for bucket in self.requests.buckets)


class CountsSnapshot(Struct, array_like=True):
    """The counts of one replica when it published them."""

    published_at: float
    owners: dict[str, OwnerCounts]


_decoder = msgspec.msgpack.Decoder(CountsSnapshot)


class UsedShare(Struct):
    """The part of its share of a limit that this replica has admitted. `started_at`: the time of the first request of
    it."""

    started_at: float
    admitted: int = 0


class RateLimiter:
    """Admits or refuses requests by the counts of all replicas.

    `count_open_jobs`: the jobs of an owner in this process that have not ended, without those of batches.
    `wall_clock` is that of jobs.
    """

    def __init__(self, count_open_jobs: Callable[[str], int], wall_clock: Callable[[], float]) -> None:
        self._count_open_jobs, self._wall_clock = count_open_jobs, wall_clock
        self._own: dict[str, OwnerCounts] = {}
        # The sums of the other replicas.
        self._others: dict[str, OwnerCounts] = {}
        self._replica_count = 1
        self._shares: dict[tuple[str, Dimension | Literal["batch_jobs"]], UsedShare] = {}

    def admit(self, owners: Sequence[LimitedOwner], images: int) -> None:
        """Counts a request. Raises RateLimitReached, and counts nothing, if it exceeds a limit of an owner."""
        now = self._wall_clock()
        amounts: dict[Dimension, int] = {"requests": 1, "images": images, "jobs": 1}
        for owner in owners:
            for dimension in DIMENSIONS:
                if (limit := owner.get_limit(dimension)) is not None:
                    self._check(owner.name, dimension, limit, amounts[dimension], now)
        for owner in owners:
            self._count(owner.name, amounts, now)

    def release(self, owners: Sequence[LimitedOwner]) -> None:
        """Ends the reservation of a job. Its worker runs by now, or it was not created."""
        for owner in owners:
            self._own[owner.name].jobs -= 1

    def reserve_batch_job(self, owners: Sequence[LimitedOwner], share: float) -> bool:
        """Counts a job of a batch until its release. Returns False, and counts nothing, if batches use their share of
        the concurrent jobs of an owner, or leave their place to an interactive request that was refused."""
        now = self._wall_clock()
        if not all(self._has_room_for_batch(owner, share, now) for owner in owners):
            return False
        self.count_batch_job(owners)
        return True

    def count_batch_job(self, owners: Sequence[LimitedOwner]) -> None:
        """Counts a job of a batch that exists already, whatever the limits, until its release."""
        now = self._wall_clock()
        for owner in owners:
            self._get_own_counts(owner.name).batch_jobs += 1
            for dimension in ("jobs", BATCH_JOBS):
                self._shares.setdefault((owner.name, dimension), UsedShare(now)).admitted += 1

    def release_batch_job(self, owners: Sequence[LimitedOwner]) -> None:
        """Ends the count of a job of a batch."""
        for owner in owners:
            self._own[owner.name].batch_jobs -= 1

    def _has_room_for_batch(self, owner: LimitedOwner, share: float, now: float) -> bool:
        if (limit := owner.limits.concurrent_jobs) is None:
            return True
        known = self._list_known_counts(owner.name)
        batch_limit = max(1, floor(limit * share))
        remaining = limit - self._count_jobs(owner.name)
        batch_remaining = batch_limit - sum(counts.batch_jobs for counts in known)
        is_paused = batch_limit == limit and any(counts.refused_at + BATCH_PAUSE_SECONDS > now for counts in known)
        return (
            not is_paused
            and min(remaining, batch_remaining) >= 1
            and self._is_within_share(owner.name, "jobs", 1, remaining)
            and self._is_within_share(owner.name, BATCH_JOBS, 1, batch_remaining)
        )

    def _check(self, name: str, dimension: Dimension, limit: int, amount: int, now: float) -> None:
        is_job = dimension == "jobs"
        buckets = {} if is_job else self._merge_buckets(name, dimension, now)
        remaining = limit - (self._count_jobs(name) if is_job else sum(buckets.values()))
        if amount <= remaining and self._is_within_share(name, dimension, amount, remaining):
            return
        if amount <= remaining:
            seconds: float = SHARE_RETRY_SECONDS
        else:
            seconds = JOB_RETRY_SECONDS if is_job else seconds_until_room(max(0, limit - amount), buckets, now)
        if is_job and any(counts.batch_jobs for counts in self._list_known_counts(name)):
            self._get_own_counts(name).refused_at = now
        retry_after = max(1, min(MAX_RETRY_SECONDS, ceil(seconds)))
        status = self._make_status(name, dimension, limit, now)
        raise RateLimitReached(status, retry_after, can_succeed=amount <= limit)

    def _is_within_share(
        self, name: str, dimension: Dimension | Literal["batch_jobs"], amount: int, remaining: int
    ) -> bool:
        """Returns whether this replica may admit the amount before the other replicas have its counts. It may always
        admit one request."""
        share = self._shares.get((name, dimension))
        if self._replica_count == 1 or share is None:
            return True
        return share.admitted + amount <= ceil((remaining + share.admitted) / self._replica_count)

    def _count(self, name: str, amounts: Mapping[Dimension, int], now: float) -> None:
        counts = self._get_own_counts(name)
        counts.requests.add(amounts["requests"], now)
        counts.images.add(amounts["images"], now)
        counts.jobs += 1
        counts.refused_at = 0.0
        for dimension in DIMENSIONS:
            self._shares.setdefault((name, dimension), UsedShare(now)).admitted += amounts[dimension]

    def _count_jobs(self, name: str) -> int:
        known = sum(counts.jobs + counts.batch_jobs for counts in self._list_known_counts(name))
        return known + self._count_open_jobs(name)

    def _get_own_counts(self, name: str) -> OwnerCounts:
        return self._own.setdefault(name, OwnerCounts())

    def _list_known_counts(self, name: str) -> list[OwnerCounts]:
        """Lists the counts of this replica, and those of the others."""
        return [owners[name] for owners in (self._own, self._others) if name in owners]

    def _merge_buckets(self, name: str, dimension: Dimension, now: float) -> dict[int, int]:
        """Adds the buckets of all replicas that still count."""
        merged: dict[int, int] = {}
        for counts in self._list_known_counts(name):
            _add_buckets(merged, getattr(counts, dimension))
        return {bucket: count for bucket, count in merged.items() if _expires_at(bucket) > now}

    # --- status

    def describe(self, owners: Sequence[LimitedOwner]) -> list[LimitStatus]:
        """Describes every limit of these owners."""
        now = self._wall_clock()
        return [
            self._make_status(owner.name, dimension, limit, now)
            for owner in owners
            for dimension in DIMENSIONS
            if (limit := owner.get_limit(dimension)) is not None
        ]

    def _make_status(self, name: str, dimension: Dimension, limit: int, now: float) -> LimitStatus:
        if dimension == "jobs":
            remaining = max(0, limit - self._count_jobs(name))
            return LimitStatus(owner=name, dimension=dimension, limit=limit, remaining=remaining)
        buckets = self._merge_buckets(name, dimension, now)
        return LimitStatus(
            owner=name,
            dimension=dimension,
            limit=limit,
            remaining=max(0, limit - sum(buckets.values())),
            reset_seconds=_expires_at(max(buckets)) - now if buckets else 0.0,
            more_seconds=_expires_at(min(buckets)) - now if buckets else 0.0,
        )

    # --- other replicas

    def make_snapshot(self) -> bytes:
        """Encodes the counts of this replica, for the others. Forgets owners without recent requests."""
        now = self._wall_clock()
        self._own = {
            name: counts for name, counts in self._own.items() if not counts.is_idle(now) or self._count_open_jobs(name)
        }
        owners = {
            name: replace(counts, jobs=counts.jobs + self._count_open_jobs(name)) for name, counts in self._own.items()
        }
        return msgspec.msgpack.encode(CountsSnapshot(now, owners))

    def merge_snapshots(self, snapshots: Mapping[str, bytes], own_name: str) -> None:
        """Replaces the counts of the other replicas by their last snapshots, given by the names of their signals.

        A used share is forgotten once every other replica has published its counts after the first request of the
        share. The counts then include all that the other replicas admitted before.
        """
        now = self._wall_clock()
        encoded = [data for name, data in snapshots.items() if name.startswith(SIGNAL_PREFIX) and name != own_name]
        others = [snapshot for data in encoded if (snapshot := _decode_snapshot(data)) is not None]
        fresh = [other for other in others if now - other.published_at <= REPLICA_TTL_SECONDS]
        self._others = _sum_snapshots(others, fresh)
        self._replica_count = 1 + len(fresh)
        known_until = min((other.published_at for other in fresh), default=inf)
        self._shares = {key: share for key, share in self._shares.items() if share.started_at >= known_until}


def _sum_snapshots(snapshots: Sequence[CountsSnapshot], fresh: Sequence[CountsSnapshot]) -> dict[str, OwnerCounts]:
    """Adds the counts of several replicas. Only fresh snapshots say which jobs have not ended."""
    sums: defaultdict[str, OwnerCounts] = defaultdict(OwnerCounts)
    for snapshot in snapshots:
        for name, counts in snapshot.owners.items():
            _add_buckets(sums[name].requests.buckets, counts.requests)
            _add_buckets(sums[name].images.buckets, counts.images)
            sums[name].refused_at = max(sums[name].refused_at, counts.refused_at)
            if snapshot in fresh:
                sums[name].jobs += counts.jobs
                sums[name].batch_jobs += counts.batch_jobs
    return dict(sums)


def _add_buckets(buckets: dict[int, int], counts: SlidingCounts) -> None:
    for bucket, count in counts.buckets.items():
        buckets[bucket] = buckets.get(bucket, 0) + count


def _decode_snapshot(data: bytes) -> CountsSnapshot | None:
    """Decodes a snapshot. Returns None for that of another version of the gateway."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return None


def seconds_until_room(allowed: int, buckets: Mapping[int, int], now: float) -> float:
    """Returns the seconds until at most `allowed` of these counts lie within the last 60 seconds."""
    used, seconds = sum(buckets.values()), 0.0
    for bucket, count in sorted(buckets.items()):
        if used <= allowed:
            break
        used, seconds = used - count, _expires_at(bucket) - now
    return seconds
