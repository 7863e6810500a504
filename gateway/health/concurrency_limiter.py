"""Concurrency and rate limiter of one account: adaptive, with a queue for interactive orders and one for batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from math import floor, inf

from gateway.config.schema import AccountLimits
from gateway.timeouts_and_intervals import HealthTiming

# The share of an account's limits that orders of batches may use.
DEFAULT_BATCH_SHARE = 0.5


class Priority(IntEnum):
    """The priority of an order. Waiting interactive orders get slots before those of batches."""

    INTERACTIVE = 0
    BATCH = 1


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


Waiters = deque["asyncio.Future[float]"]


class AccountLimiter:
    """Grants order slots of one account: to interactive orders in their order of arrival, then to those of batches.

    Orders of batches get at most `batch_share` of the limits, and at least one slot. So the rest of the slots is always
    free of them. `clock` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], timing: HealthTiming) -> None:
        self.in_flight = self.batches_in_flight = 0
        self._batch_share = DEFAULT_BATCH_SHARE
        self._rate_window_seconds = timing.rate_window_seconds
        self._clock = clock
        self._limits = AccountLimits()
        self._waiters: dict[Priority, Waiters] = {priority: deque() for priority in Priority}
        # Of all orders, and of those of batches.
        self._start_times: deque[float] = deque()
        self._batch_start_times: deque[float] = deque()
        self._paused_until = -inf
        self._adaptive_limit = AdaptiveLimit(timing)
        self._peak = PeakInFlight(timing.rate_window_seconds)
        self._wakeup: asyncio.TimerHandle | None = None

    # --- limits

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not any(self._waiters.values())

    def configure(self, limits: AccountLimits, batch_share: float = DEFAULT_BATCH_SHARE) -> None:
        self._limits, self._batch_share = limits, batch_share
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

    @property
    def current_limit(self) -> int | None:
        limit = self._get_limit(self._clock())
        return None if limit == inf else int(limit)

    @property
    def waiting_count(self) -> int:
        return sum(map(len, self._waiters.values()))

    @property
    def waiting_batch_count(self) -> int:
        return len(self._waiters[Priority.BATCH])

    def get_load(self) -> float:
        """Returns the load for an interactive order, which does not wait behind orders of batches."""
        now = self._clock()
        limit = self._get_limit(now)
        utilization = self.in_flight / limit
        return max(utilization, 1.0) if self._has_to_wait(now) else utilization

    def _has_to_wait(self, now: float) -> bool:
        return bool(self._waiters[Priority.INTERACTIVE]) or self._get_earliest_start(now) > now

    def _get_limit(self, now: float) -> float:
        configured, adaptive = self._limits.concurrency, self._adaptive_limit.get_current(now)
        return min(inf if configured is None else configured, inf if adaptive is None else adaptive)

    def _get_share(self, limit: float, priority: Priority) -> float:
        """Returns how much of a limit orders of this priority may use."""
        return limit if priority is Priority.INTERACTIVE or limit == inf else max(1, floor(limit * self._batch_share))

    def _get_earliest_start(self, now: float, priority: Priority = Priority.INTERACTIVE) -> float:
        """Returns the time from which the pause and the rate limit allow the next order: at most `now` if they allow it
        already."""
        per_minute = inf if self._limits.per_minute is None else self._limits.per_minute
        allowed_at = max(self._paused_until, self._get_next_start(self._start_times, per_minute, now))
        if priority is Priority.INTERACTIVE:
            return allowed_at
        share = self._get_share(per_minute, priority)
        return max(allowed_at, self._get_next_start(self._batch_start_times, share, now))

    def _get_next_start(self, start_times: deque[float], per_minute: float, now: float) -> float:
        """Returns when fewer than `per_minute` orders have started within the last minute. Forgets older ones."""
        while start_times and start_times[0] + self._rate_window_seconds <= now:
            start_times.popleft()
        if len(start_times) < per_minute:
            return -inf
        return start_times[len(start_times) - int(per_minute)] + self._rate_window_seconds

    # --- slots

    async def acquire(self, timeout_seconds: float, priority: Priority = Priority.INTERACTIVE) -> None:
        now = self._clock()
        if not self._has_waiters_before(priority) and self._has_free_slot(now, priority):
            self._take_slot(now, priority)
            return
        if self._paused_until > now + timeout_seconds:
            raise SlotTimeout(self.get_remaining_pause())
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiters[priority].append(waiter)
        self._admit_waiters()
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter
        except TimeoutError:
            self._remove_waiter(waiter, priority)
            raise SlotTimeout(self.get_remaining_pause()) from None
        except asyncio.CancelledError:
            self._remove_waiter(waiter, priority)
            raise

    def release(self, priority: Priority = Priority.INTERACTIVE) -> None:
        self.in_flight -= 1
        self.batches_in_flight -= priority
        self._admit_waiters()

    def _has_waiters_before(self, priority: Priority) -> bool:
        """Returns whether an order waits that gets a slot before a new one of this priority."""
        return any(waiters for waiting, waiters in self._waiters.items() if waiting <= priority)

    def _has_free_slot(self, now: float, priority: Priority) -> bool:
        return not self._has_full_concurrency(now, priority) and self._get_earliest_start(now, priority) <= now

    def _has_full_concurrency(self, now: float, priority: Priority) -> bool:
        limit = self._get_limit(now)
        is_share_used = priority is Priority.BATCH and self.batches_in_flight >= self._get_share(limit, priority)
        return is_share_used or self.in_flight >= limit

    def _take_slot(self, now: float, priority: Priority) -> None:
        self.in_flight += 1
        self.batches_in_flight += priority
        self._peak.observe(self.in_flight, now)
        if self._limits.per_minute is not None:
            for start_times in self._list_start_times(priority):
                start_times.append(now)

    def _list_start_times(self, priority: Priority) -> list[deque[float]]:
        return [self._start_times, self._batch_start_times][: priority + 1]

    def _remove_waiter(self, waiter: asyncio.Future[float], priority: Priority) -> None:
        """Removes a waiter that stopped waiting. If it was granted a slot in the same moment, releases the slot as
        unused."""
        if waiter.done() and not waiter.cancelled():
            for start_times in self._list_start_times(priority):
                if (start_time := waiter.result()) in start_times:
                    start_times.remove(start_time)
            self.release(priority)
        elif waiter in self._waiters[priority]:
            self._waiters[priority].remove(waiter)

    def _admit_waiters(self) -> None:
        """Grants free slots. Orders of batches get them only if no interactive order waits."""
        now = self._clock()
        for priority, waiters in self._waiters.items():
            while waiters and (waiters[0].done() or self._has_free_slot(now, priority)):
                waiter = waiters.popleft()
                if not waiter.done():
                    self._take_slot(now, priority)
                    waiter.set_result(now)
            if waiters:
                break
        self._schedule_wakeup(now)

    def _schedule_wakeup(self, now: float) -> None:
        """Schedules the next admission that only depends on time. A released slot admits the next order without a
        timer."""
        if self._wakeup:
            self._wakeup.cancel()
            self._wakeup = None
        if (priority := self._get_next_priority()) is None:
            return
        limit_rises_at = (
            self._adaptive_limit.get_next_increase_time(now) if self._has_full_concurrency(now, priority) else -inf
        )
        wakeup_at = max(self._get_earliest_start(now, priority), limit_rises_at)
        if wakeup_at < inf:
            self._wakeup = asyncio.get_running_loop().call_later(max(wakeup_at - now, 0.001), self._admit_waiters)

    def _get_next_priority(self) -> Priority | None:
        """Returns the priority of the order that gets the next slot; None if no order waits."""
        return next((priority for priority, waiters in self._waiters.items() if waiters), None)
