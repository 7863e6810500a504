"""A storage check that fails once changes nothing; a full disk, and a failure that lasts, stop new jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from gateway.assets import shelf as storage
from gateway.assets.base import ShelfError
from gateway.assets.shelf import Shelf, ShelfFull, ShelfRefused, ShelfUnavailable

LASTING = storage.LASTING_SECONDS


class FailingStorage:
    """A shelf in memory, by a clock of its own, whose writes fail with `error`, if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shelf = Shelf("memory://")
        self.error: ShelfError | None = None
        self.now, self.checks = 1_000.0, 0
        self._put: Callable[[str, bytes, str], Awaitable[None]] = self.shelf._place.put
        monkeypatch.setattr(self.shelf._place, "put", self._put_or_fail)
        monkeypatch.setattr(storage, "monotonic", lambda: self.now)

    async def _put_or_fail(self, key: str, data: bytes, media_type: str) -> None:
        self.checks += 1
        if self.error:
            raise self.error
        await self._put(key, data, media_type)

    def check(self, error: ShelfError | None, later: float = 0.0) -> ShelfUnavailable | None:
        """Checks again after so many seconds; returns the problem then."""
        self.error, self.now = error, self.now + later
        with suppress(ShelfUnavailable):
            asyncio.run(self.shelf.check_again())
        return self.shelf.problem


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingStorage:
    return FailingStorage(monkeypatch)


@pytest.mark.parametrize("error", [ShelfUnavailable("timeout"), ShelfRefused("forbidden")], ids=["timeout", "refused"])
def test_failure_that_passes_stops_no_job(failing: FailingStorage, error: ShelfUnavailable) -> None:
    assert failing.check(None) is None
    for _ in range(3):
        assert failing.check(error, later=storage.CHECK_SECONDS + 1) is None
        assert failing.check(error, later=LASTING / 2) is None, "it is looked at again at once"
        assert failing.check(None, later=LASTING / 4) is None


def test_failure_that_lasts_stops_new_jobs_until_a_check_passes(failing: FailingStorage) -> None:
    error = ShelfUnavailable("timeout")
    assert failing.check(None) is None
    assert failing.check(error, later=storage.CHECK_SECONDS + 1) is None
    assert failing.check(error, later=LASTING) is error
    assert failing.check(None, later=0.1) is None
    checks = failing.checks
    assert failing.check(error, later=1.0) is None
    assert failing.checks == checks, "all is well, so the next look has time"


def test_full_disk_stops_new_jobs_at_once(failing: FailingStorage) -> None:
    full = ShelfFull("there is no room")
    assert failing.check(None) is None
    assert failing.check(full, later=storage.CHECK_SECONDS + 1) is full
    other = ShelfUnavailable("timeout")
    assert failing.check(other, later=0.1) is other, "nothing shows that there is room again"


def test_storage_that_never_worked_takes_no_jobs(failing: FailingStorage) -> None:
    error = ShelfUnavailable("timeout")
    assert failing.check(error) is error
