"""A self-test that fails once changes nothing; a full disk, and a lasting failure, stop new jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from gateway.assets import storage
from gateway.assets.backend import StorageError
from gateway.assets.storage import ImageStorage, StorageAccessDenied, StorageFull, StorageUnavailable
from gateway.timeouts_and_intervals import MaintenanceTiming

TIMING = MaintenanceTiming()


class FailingStorage:
    """A storage in memory with a clock of its own, whose writes raise `error` if it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = ImageStorage("memory://", TIMING)
        self.error: StorageError | None = None
        self.now, self.check_count = 1_000.0, 0
        self._original_put: Callable[[str, bytes, str], Awaitable[None]] = self.storage._backend.put
        monkeypatch.setattr(self.storage._backend, "put", self._put_or_fail)
        monkeypatch.setattr(storage, "monotonic", lambda: self.now)

    async def _put_or_fail(self, key: str, data: bytes, media_type: str) -> None:
        self.check_count += 1
        if self.error:
            raise self.error
        await self._original_put(key, data, media_type)

    def check_after(self, error: StorageError | None, seconds: float = 0.0) -> StorageUnavailable | None:
        """Runs the self-test after so many seconds; returns the problem then."""
        self.error, self.now = error, self.now + seconds
        with suppress(StorageUnavailable):
            asyncio.run(self.storage.self_test_if_due())
        return self.storage.problem


@pytest.fixture
def failing_storage(monkeypatch: pytest.MonkeyPatch) -> FailingStorage:
    return FailingStorage(monkeypatch)


@pytest.mark.parametrize(
    "error", [StorageUnavailable("timeout"), StorageAccessDenied("forbidden")], ids=["timeout", "refused"]
)
def test_transient_failure_does_not_stop_new_jobs(failing_storage: FailingStorage, error: StorageUnavailable) -> None:
    assert failing_storage.check_after(None) is None
    for _ in range(3):
        assert failing_storage.check_after(error, seconds=TIMING.storage_test_interval_seconds + 1) is None
        assert failing_storage.check_after(error, seconds=TIMING.max_transient_failure_seconds / 2) is None, (
            "it is looked at again at once"
        )
        assert failing_storage.check_after(None, seconds=TIMING.max_transient_failure_seconds / 4) is None


def test_lasting_failure_stops_new_jobs_until_self_test_passes(failing_storage: FailingStorage) -> None:
    error = StorageUnavailable("timeout")
    assert failing_storage.check_after(None) is None
    assert failing_storage.check_after(error, seconds=TIMING.storage_test_interval_seconds + 1) is None
    assert failing_storage.check_after(error, seconds=TIMING.max_transient_failure_seconds) is error
    assert failing_storage.check_after(None, seconds=0.1) is None
    check_count = failing_storage.check_count
    assert failing_storage.check_after(error, seconds=1.0) is None
    assert failing_storage.check_count == check_count, "the self-test is not due yet after a success"


def test_full_disk_stops_new_jobs_at_once(failing_storage: FailingStorage) -> None:
    full = StorageFull("there is no room")
    assert failing_storage.check_after(None) is None
    assert failing_storage.check_after(full, seconds=TIMING.storage_test_interval_seconds + 1) is full
    other = StorageUnavailable("timeout")
    assert failing_storage.check_after(other, seconds=0.1) is other, (
        "another error does not show that there is space again"
    )


def test_storage_that_never_worked_accepts_no_jobs(failing_storage: FailingStorage) -> None:
    error = StorageUnavailable("timeout")
    assert failing_storage.check_after(error) is error
