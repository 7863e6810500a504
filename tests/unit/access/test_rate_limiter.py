"""Rate limits count what all replicas admitted within the last 60 seconds, and jobs that have not ended."""

from collections import Counter
from random import Random

import pytest

from gateway.access.rate_limiter import (
    SIGNAL_PREFIX,
    LimitedOwner,
    RateLimiter,
    RateLimitReached,
    seconds_until_room,
)
from gateway.config.schema import RateLimits
from tests.harness.manual_clock import ManualClock

MINUTE_START = 1_200_000_000.0
TEAM = "team:design"


class Replicas:
    """Rate limiters that share their counts when `share_counts` is called. `open_jobs`: those of each replica."""

    def __init__(self, count: int = 1) -> None:
        self.clock = ManualClock(MINUTE_START)
        self.open_jobs = [Counter[str]() for _ in range(count)]
        self.limiters = [RateLimiter(jobs.__getitem__, self.clock) for jobs in self.open_jobs]

    def share_counts(self) -> None:
        snapshots = {f"{SIGNAL_PREFIX}{index}": each.make_snapshot() for index, each in enumerate(self.limiters)}
        snapshots["another signal"] = b"of another kind"
        for index, limiter in enumerate(self.limiters):
            limiter.merge_snapshots(snapshots, f"{SIGNAL_PREFIX}{index}")

    def count_admitted(self, owner: LimitedOwner, tries: int, images: int = 1, replica: int = 0) -> int:
        return sum(self.try_to_admit(owner, images, replica) is None for _ in range(tries))

    def try_to_admit(self, owner: LimitedOwner, images: int = 1, replica: int = 0) -> RateLimitReached | None:
        """Admits a request whose job ends at once; returns why it was refused."""
        try:
            self.limiters[replica].admit([owner], images)
        except RateLimitReached as reached:
            return reached
        self.limiters[replica].release([owner])
        return None


def limit_team(**limits: int) -> LimitedOwner:
    return LimitedOwner(TEAM, RateLimits(**limits))


def test_requests_up_to_the_limit_are_admitted() -> None:
    replicas, owner = Replicas(), limit_team(requests_per_minute=5)
    assert replicas.count_admitted(owner, 8) == 5
    refused = replicas.try_to_admit(owner)
    assert refused is not None
    assert (refused.status.dimension, refused.status.limit, refused.status.remaining) == ("requests", 5, 0)
    assert refused.can_succeed


def test_images_are_counted_not_requests() -> None:
    replicas, owner = Replicas(), limit_team(images_per_minute=10)
    assert replicas.count_admitted(owner, 5, images=4) == 2
    assert replicas.count_admitted(owner, 5, images=1) == 2


def test_request_for_more_images_than_the_limit_never_succeeds() -> None:
    refused = Replicas().try_to_admit(limit_team(images_per_minute=3), images=4)
    assert refused is not None
    assert not refused.can_succeed


@pytest.mark.parametrize("offset", [0.0, 1.0, 29.5, 59.0])
def test_no_minute_admits_more_than_the_limit(offset: float) -> None:
    """Wherever the 60 seconds begin, not only at the minutes of the clock."""
    replicas, owner = Replicas(), limit_team(requests_per_minute=30)
    replicas.clock.now += offset
    admitted: list[float] = []
    for _ in range(600):
        replicas.clock.now += 0.5
        if replicas.try_to_admit(owner) is None:
            admitted.append(replicas.clock.now)
    assert max(sum(1 for other in admitted if start <= other < start + 60.0) for start in admitted) == 30
    assert len(admitted) >= 4 * 30, "in five minutes"


def test_retry_after_is_when_the_request_fits() -> None:
    for second in range(0, 60, 7):
        replicas, owner = Replicas(), limit_team(requests_per_minute=10)
        replicas.clock.now += second
        replicas.count_admitted(owner, 10)
        refused = replicas.try_to_admit(owner)
        assert refused is not None
        assert 1 <= refused.retry_after <= 120
        replicas.clock.now += refused.retry_after - 1.5
        assert replicas.try_to_admit(owner) is not None
        replicas.clock.now += 1.5
        assert replicas.try_to_admit(owner) is None


def test_concurrent_jobs_count_until_they_end() -> None:
    replicas, owner = Replicas(), limit_team(concurrent_jobs=2)
    replicas.limiters[0].admit([owner], 1)
    replicas.limiters[0].admit([owner], 1)
    refused = replicas.try_to_admit(owner)
    assert refused is not None
    assert refused.status.dimension == "jobs"
    replicas.open_jobs[0][TEAM] = 2
    replicas.limiters[0].release([owner])
    replicas.limiters[0].release([owner])
    assert replicas.try_to_admit(owner) is not None, "their workers run now"
    replicas.open_jobs[0][TEAM] = 1
    assert replicas.try_to_admit(owner) is None


def test_refused_request_counts_nowhere() -> None:
    team = LimitedOwner(TEAM, RateLimits(requests_per_minute=10))
    key = LimitedOwner("key:a", RateLimits(images_per_minute=1))
    replicas = Replicas()
    limiter = replicas.limiters[0]
    for _ in range(5):
        with pytest.raises(RateLimitReached):
            limiter.admit([team, key], 2)
    assert [status.remaining for status in limiter.describe([team, key])] == [10, 1]


def test_key_and_team_are_limited_both() -> None:
    team = LimitedOwner(TEAM, RateLimits(requests_per_minute=3))
    keys = [LimitedOwner(f"key:{name}", RateLimits(requests_per_minute=2)) for name in "ab"]
    limiter = Replicas().limiters[0]
    outcomes = []
    for key in (keys[0], keys[0], keys[0], keys[1], keys[1]):
        try:
            limiter.admit([team, key], 1)
            outcomes.append("admitted")
        except RateLimitReached as reached:
            outcomes.append(reached.status.owner)
    assert outcomes == ["admitted", "admitted", "key:a", "admitted", TEAM]


@pytest.mark.parametrize("replica_count", [2, 3, 5])
def test_replicas_together_exceed_a_limit_by_at_most_one_each(replica_count: int) -> None:
    """A burst to all replicas at the same moment."""
    replicas, owner = Replicas(replica_count), limit_team(requests_per_minute=60)
    replicas.share_counts()
    admitted = 0
    for _ in range(20):
        for replica in range(replica_count):
            admitted += replicas.count_admitted(owner, 60, replica=replica)
        replicas.share_counts()
        replicas.clock.now += 1.0
    assert 60 <= admitted <= 60 + replica_count


@pytest.mark.parametrize(("replica_count", "seed"), [(2, 1), (3, 2), (5, 3)])
def test_replicas_that_exchange_at_different_moments_exceed_a_limit_by_a_quarter(replica_count: int, seed: int) -> None:
    """A client that sends ten times the limit to all of them: more than any well-behaved one."""
    random_source, replicas = Random(seed), Replicas(replica_count)  # noqa: S311
    owner, signals = limit_team(requests_per_minute=60), dict[str, bytes]()
    offsets = [random_source.random() for _ in range(replica_count)]
    admitted: list[float] = []
    for step in range(70 * 20):
        replicas.clock.now = MINUTE_START + step / 20
        for replica, limiter in enumerate(replicas.limiters):
            if int((step - 1) / 20 + offsets[replica]) != int(step / 20 + offsets[replica]) or step == 0:
                signals[f"{SIGNAL_PREFIX}{replica}"] = limiter.make_snapshot()
                limiter.merge_snapshots(signals, f"{SIGNAL_PREFIX}{replica}")
            if step > 40 and step % 2 == 0 and replicas.try_to_admit(owner, replica=replica) is None:
                admitted.append(replicas.clock.now)
    busiest = max(sum(1 for other in admitted if start <= other < start + 60.0) for start in admitted)
    assert 60 <= busiest <= 75


def test_client_of_one_replica_gets_the_whole_limit() -> None:
    """After some seconds: a replica gets its share of what is left in each interval."""
    replicas, owner = Replicas(3), limit_team(requests_per_minute=60)
    replicas.share_counts()
    admitted = [replicas.count_admitted(owner, 60)]
    for _ in range(12):
        replicas.clock.now += 1.0
        replicas.share_counts()
        admitted.append(replicas.count_admitted(owner, 60))
    assert admitted[0] == 20
    assert sum(admitted) >= 58


def test_share_is_available_again_within_seconds() -> None:
    replicas, owner = Replicas(2), limit_team(requests_per_minute=60)
    replicas.share_counts()
    replicas.count_admitted(owner, 60)
    refused = replicas.try_to_admit(owner)
    assert refused is not None
    assert refused.retry_after == 2


def test_stopped_replica_gets_no_share_but_its_requests_count() -> None:
    replicas, owner = Replicas(2), limit_team(requests_per_minute=10)
    replicas.count_admitted(owner, 4, replica=1)
    replicas.share_counts()
    snapshots = {f"{SIGNAL_PREFIX}1": replicas.limiters[1].make_snapshot()}
    replicas.clock.now += 6.0
    replicas.limiters[0].merge_snapshots(snapshots, f"{SIGNAL_PREFIX}0")
    assert replicas.count_admitted(owner, 10) == 6


def test_concurrent_jobs_of_other_replicas_count() -> None:
    replicas, owner = Replicas(2), limit_team(concurrent_jobs=4)
    replicas.open_jobs[1][TEAM] = 3
    replicas.count_admitted(owner, 1, replica=1)
    replicas.share_counts()
    assert replicas.limiters[0].describe([owner])[0].remaining == 1


def test_unreadable_snapshot_is_ignored() -> None:
    replicas, owner = Replicas(), limit_team(requests_per_minute=2)
    replicas.limiters[0].merge_snapshots({f"{SIGNAL_PREFIX}x": b"\xff", "health": b""}, f"{SIGNAL_PREFIX}0")
    assert replicas.count_admitted(owner, 3) == 2


def test_idle_owners_are_forgotten() -> None:
    replicas, owner = Replicas(), limit_team(requests_per_minute=2)
    replicas.count_admitted(owner, 1)
    size = len(replicas.limiters[0].make_snapshot())
    replicas.clock.now += 180.0
    assert len(replicas.limiters[0].make_snapshot()) < size


@pytest.mark.parametrize(
    ("allowed", "buckets", "seconds"),
    [
        (5, {}, 0.0),
        (5, {0: 5}, 0.0),
        (4, {0: 5}, 55.0),
        (0, {0: 5}, 55.0),
        (0, {0: 5, 2: 1}, 65.0),
        (1, {0: 5, 2: 1}, 55.0),
        (5, {0: 5, 2: 1}, 55.0),
    ],
)
def test_seconds_until_room(allowed: int, buckets: dict[int, int], seconds: float) -> None:
    start = int(MINUTE_START / 5)
    assert seconds_until_room(allowed, {start + index: n for index, n in buckets.items()}, MINUTE_START + 10) == seconds


def test_batches_use_a_share_of_the_concurrent_jobs_of_all_replicas() -> None:
    """The batches of both replicas together, once these have exchanged their counts."""
    replicas, owner = Replicas(2), limit_team(concurrent_jobs=8)
    first, second = replicas.limiters
    replicas.share_counts()
    assert count_reserved(first, owner) == 2, "its part of the share, until it has the counts of the other replica"
    replicas.clock.now += 1.0
    replicas.share_counts()
    assert count_reserved(second, owner) == 1
    replicas.clock.now += 1.0
    replicas.share_counts()
    assert count_reserved(second, owner) == 1
    replicas.clock.now += 1.0
    replicas.share_counts()
    assert [count_reserved(limiter, owner) for limiter in replicas.limiters] == [0, 0]
    assert [limiter.describe([owner])[0].remaining for limiter in replicas.limiters] == [4, 4]
    first.release_batch_job([owner])
    assert count_reserved(first, owner) == 1


@pytest.mark.parametrize(("limit", "replica_count"), [(1, 2), (4, 2), (10, 2), (10, 5)])
def test_batches_of_several_replicas_exceed_their_share_by_at_most_one_each(limit: int, replica_count: int) -> None:
    """All replicas start the lines of their batches at the same moment, time and again."""
    replicas, owner = Replicas(replica_count), limit_team(concurrent_jobs=limit)
    open_count = 0
    for _ in range(20):
        replicas.share_counts()
        open_count += sum(count_reserved(limiter, owner) for limiter in replicas.limiters)
        replicas.clock.now += 1.0
    assert max(1, limit // 2) <= open_count < max(1, limit // 2) + replica_count


@pytest.mark.parametrize(("limit", "share", "most"), [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (4, 1, 4)])
def test_batches_use_at_most_their_share_and_at_least_one_place(limit: int, share: float, most: int) -> None:
    limiter = Replicas().limiters[0]
    owner, unlimited = limit_team(concurrent_jobs=limit), LimitedOwner("key:a", RateLimits(requests_per_minute=1))
    assert count_reserved(limiter, unlimited, owner, share=share) == most
    assert limiter.reserve_batch_job([unlimited], share), "a limit of requests per minute does not count lines"
    assert not limiter.reserve_batch_job([unlimited, owner], share)
    assert limiter.describe([owner])[0].remaining == limit - most


def test_batches_and_interactive_requests_together_keep_the_limit() -> None:
    replicas, owner = Replicas(), limit_team(concurrent_jobs=4)
    replicas.open_jobs[0][TEAM] = 3
    assert count_reserved(replicas.limiters[0], owner) == 1
    assert replicas.try_to_admit(owner) is not None


def test_existing_job_of_a_batch_counts_beyond_the_share() -> None:
    limiter, owner = Replicas().limiters[0], limit_team(concurrent_jobs=4)
    for _ in range(3):
        limiter.count_batch_job([owner])
    assert count_reserved(limiter, owner) == 0
    for _ in range(2):
        limiter.release_batch_job([owner])
    assert count_reserved(limiter, owner) == 1


@pytest.mark.parametrize("replica", [0, 1])
def test_refused_interactive_request_gets_the_only_place_before_the_next_line(replica: int) -> None:
    """Whichever replica refuses it."""
    replicas, owner = Replicas(2), limit_team(concurrent_jobs=1)
    limiter = replicas.limiters[0]
    assert limiter.reserve_batch_job([owner], 0.5)
    replicas.share_counts()
    assert replicas.try_to_admit(owner, replica=replica) is not None
    limiter.release_batch_job([owner])
    replicas.clock.now += 30.0
    replicas.share_counts()
    assert not limiter.reserve_batch_job([owner], 0.5)
    assert replicas.try_to_admit(owner, replica=replica) is None
    replicas.clock.now += 1.0
    replicas.share_counts()
    assert limiter.reserve_batch_job([owner], 0.5)


def test_batch_continues_a_minute_after_the_last_refused_request() -> None:
    replicas, owner = Replicas(), limit_team(concurrent_jobs=1)
    limiter = replicas.limiters[0]
    assert limiter.reserve_batch_job([owner], 0.5)
    assert replicas.try_to_admit(owner) is not None
    limiter.release_batch_job([owner])
    replicas.clock.now += 59.0
    assert not limiter.reserve_batch_job([owner], 0.5)
    replicas.clock.now += 1.0
    assert limiter.reserve_batch_job([owner], 0.5)


def test_refused_request_of_a_larger_limit_does_not_stop_batches() -> None:
    """Interactive requests have the other half of its places."""
    replicas, owner = Replicas(), limit_team(concurrent_jobs=2)
    limiter = replicas.limiters[0]
    assert limiter.reserve_batch_job([owner], 0.5)
    replicas.open_jobs[0][TEAM] = 1
    assert replicas.try_to_admit(owner) is not None
    limiter.release_batch_job([owner])
    assert limiter.reserve_batch_job([owner], 0.5)


def count_reserved(limiter: RateLimiter, *owners: LimitedOwner, share: float = 0.5) -> int:
    return sum(limiter.reserve_batch_job(owners, share) for _ in range(10))
