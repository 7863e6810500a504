"""Concurrency and rate limiter of one account: adaptive, with a queue."""

import asyncio
from collections import deque
from collections.abc import Callable
from math import floor, inf

from gateway.config.schema import AccountLimits
from gateway.timeouts_and_intervals import HealthTiming


class SlotTimeout(Exception):
    """No order slot became free in time, so nothing was sent.

    `retry_after`: the seconds until the Retry-After of the seller is over; None if it gave none.
    """

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("no free order slot in time")
        self.retry_after = retry_after


class AdaptiveLimit:
    """The concurrency that a seller tolerates: halved after a rejection, then raised by one every ten seconds."""

    def __init__(self, timing: HealthTiming) -> None:
        self._timing = timing
        self._reduced_limit: int | None = None
        self._full_limit = 0
        self._reduced_at = 0.0

    def halve(self, now: float, baseline: int) -> None:
        """Halves the limit. `baseline`: the configured limit, or else the highest number seen in flight; 0 if neither
        is known."""
        current = self.get_current(now)
        if current is not None and now - self._reduced_at < self._timing.rejection_dedup_seconds:
            return
        if current is None:
            self._full_limit = baseline
        if (limit := current or baseline) > 0:
            self._reduced_limit, self._reduced_at = max(1, limit // 2), now

    def get_current(self, now: float) -> int | None:
        """Returns the reduced limit, or None once it has risen to the full limit again."""
        if self._reduced_limit is None:
            return None
        interval = self._timing.recovery_interval_seconds
        recovered = self._reduced_limit + max(0, floor((now - self._reduced_at) / interval))
        if recovered >= self._full_limit and now - self._reduced_at >= interval:
            self._reduced_limit = None
            return None
        return recovered

    def get_next_increase_time(self, now: float) -> float:
        if self._reduced_limit is None:
            return inf
        interval = self._timing.recovery_interval_seconds
        return now + interval - (now - self._reduced_at) % interval


class PeakInFlight:
    """The highest number of orders in flight during this minute and the previous one."""

    def __init__(self, minute_seconds: float) -> None:
        self._minute_seconds = minute_seconds
        self._current_minute, self._current_peak, self._previous_peak = -1, 0, 0

    def observe(self, in_flight: int, now: float) -> None:
        self._advance_minute(now)
        self._current_peak = max(self._current_peak, in_flight)

    def get_peak(self, now: float) -> int:
        self._advance_minute(now)
        return max(self._current_peak, self._previous_peak)

    def _advance_minute(self, now: float) -> None:
        minute = floor(now / self._minute_seconds)
        if minute != self._current_minute:
            self._previous_peak = self._current_peak if minute == self._current_minute + 1 else 0
            self._current_minute, self._current_peak = minute, 0


class AccountLimiter:
    """Grants order slots of one account, first come, first served. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float], timing: HealthTiming) -> None:
        self.in_flight = 0
        self._rate_window_seconds = timing.rate_window_seconds
        self._clock = clock
        self._limits = AccountLimits()
        self._waiters: deque[asyncio.Future[float]] = deque()
        self._start_times: deque[float] = deque()
        self._paused_until = -inf
        self._adaptive_limit = AdaptiveLimit(timing)
        self._peak = PeakInFlight(timing.rate_window_seconds)
        self._wakeup: asyncio.TimerHandle | None = None

    # --- limits

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not self._waiters

    def configure(self, limits: AccountLimits) -> None:
        self._limits = limits
        self._admit_waiters()

    def halve_limit(self) -> None:
        now = self._clock()
        self._peak.observe(self.in_flight, now)
        self._adaptive_limit.halve(now, self._limits.concurrency or self._peak.get_peak(now))

    def pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def get_remaining_pause(self) -> float | None:
        remaining = self._paused_until - self._clock()
        return remaining if remaining > 0 else None

    def get_load(self) -> float:
        now = self._clock()
        limit = self._get_limit(now)
        utilization = self.in_flight / limit
        return max(utilization, 1.0) if self._waiters or self._get_earliest_start(now) > now else utilization

    def _get_limit(self, now: float) -> float:
        configured, adaptive = self._limits.concurrency, self._adaptive_limit.get_current(now)
        return min(inf if configured is None else configured, inf if adaptive is None else adaptive)

    def _get_earliest_start(self, now: float) -> float:
        """Returns the time from which the pause and the rate limit allow the next order: at most `now` if they allow it
        already."""
        while self._start_times and self._start_times[0] + self._rate_window_seconds <= now:
            self._start_times.popleft()
        is_rate_exhausted = self._limits.per_minute is not None and len(self._start_times) >= self._limits.per_minute
        rate_allows_at = self._start_times[0] + self._rate_window_seconds if is_rate_exhausted else -inf
        return max(self._paused_until, rate_allows_at)

    # --- slots

    async def acquire(self, timeout_seconds: float) -> None:
        now = self._clock()
        if not self._waiters and self._has_free_slot(now):
            self._take_slot(now)
            return
        if self._paused_until > now + timeout_seconds:
            raise SlotTimeout(self.get_remaining_pause())
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._admit_waiters()
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter
        except TimeoutError:
            self._remove_waiter(waiter)
            raise SlotTimeout(self.get_remaining_pause()) from None
        except asyncio.CancelledError:
            self._remove_waiter(waiter)
            raise

    def release(self) -> None:
        self.in_flight -= 1
        self._admit_waiters()

    def _has_free_slot(self, now: float) -> bool:
        return self.in_flight < self._get_limit(now) and self._get_earliest_start(now) <= now

    def _take_slot(self, now: float) -> None:
        self.in_flight += 1
        self._peak.observe(self.in_flight, now)
        if self._limits.per_minute is not None:
            self._start_times.append(now)

    def _remove_waiter(self, waiter: asyncio.Future[float]) -> None:
        """Removes a waiter that stopped waiting. If it was granted a slot in the same moment, releases the slot as
        unused."""
        if waiter.done() and not waiter.cancelled():
            if (start_time := waiter.result()) in self._start_times:
                self._start_times.remove(start_time)
            self.release()
        elif waiter in self._waiters:
            self._waiters.remove(waiter)

    def _admit_waiters(self) -> None:
        now = self._clock()
        while self._waiters and (self._waiters[0].done() or self._has_free_slot(now)):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._take_slot(now)
                waiter.set_result(now)
        self._schedule_wakeup(now)

    def _schedule_wakeup(self, now: float) -> None:
        """Schedules the next admission that only depends on time. A released slot admits the next order without a
        timer."""
        if self._wakeup:
            self._wakeup.cancel()
            self._wakeup = None
        if not self._waiters:
            return
        limit_rises_at = (
            self._adaptive_limit.get_next_increase_time(now) if self.in_flight >= self._get_limit(now) else -inf
        )
        wakeup_at = max(self._get_earliest_start(now), limit_rises_at)
        if wakeup_at < inf:
            self._wakeup = asyncio.get_running_loop().call_later(max(wakeup_at - now, 0.001), self._admit_waiters)
