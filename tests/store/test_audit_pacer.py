"""A long audit gives way to other threads in slices, and ends soon after it is stopped."""

from collections.abc import Iterator
from itertools import count
from time import thread_time

import pytest

from gateway.store.audit_pacer import AuditPacer
from gateway.store.base import StoreUnavailable
from gateway.timeouts_and_intervals import StoreTiming

MAX_SECONDS, TIMING = 60.0, StoreTiming()


def count_until_timeout() -> Iterator[int]:
    """Counts until this thread has used the processor for so long that the test failed."""
    end = thread_time() + MAX_SECONDS
    return (number for number in count() if thread_time() < end)


def test_loop_within_one_slice_yields_all_items() -> None:
    assert list(AuditPacer(TIMING).iterate("abc")) == ["a", "b", "c"]


def test_stopped_loop_ends_after_its_slice() -> None:
    pacer = AuditPacer(TIMING)
    pacer.stop()
    started_at = thread_time()
    with pytest.raises(StoreUnavailable, match="closed"):
        for _ in pacer.iterate(count_until_timeout()):
            pass
    assert thread_time() - started_at < TIMING.audit_slice_seconds + 1.0


def test_collections_are_cleared_item_by_item() -> None:
    jobs, ids = {str(number): number for number in range(10_000)}, {str(number) for number in range(10_000)}
    AuditPacer(TIMING).clear(jobs, ids)
    assert not jobs
    assert not ids
