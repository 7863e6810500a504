"""The way into one account: who is in, who waits, and how many are let in."""

import asyncio
from collections import deque
from collections.abc import Callable
from math import floor, inf

from gateway.config.blocks import AccountLimits

MINUTE = 60.0
RECOVERY_SECONDS = 10.0
# Orders that were sent together are refused together: that is one complaint, not many.
SAME_COMPLAINT_SECONDS = 1.0


class NoSlot(Exception):
    """There was no place in time. `seconds`: for how much longer the seller wants no orders, if it said so."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__("no place among the orders in progress")
        self.seconds = seconds


class Ceiling:
    """How many at once a seller bears: half as many after each complaint, one more after each while without one."""

    def __init__(self) -> None:
        self._halved_to: int | None = None
        self._halved_from = 0
        self._since = 0.0

    def halve(self, now: float, known: int) -> None:
        """`known`: how many were allowed, or else were seen in progress; 0 if neither is known."""
        current = self.at_most(now)
        if current is not None and now - self._since < SAME_COMPLAINT_SECONDS:
            return
        if current is None:
            self._halved_from = known
        if (halved := current or known) > 0:
            self._halved_to, self._since = max(1, halved // 2), now

    def at_most(self, now: float) -> int | None:
        """None when all that was taken away has been given back."""
        if self._halved_to is None:
            return None
        recovered = self._halved_to + max(0, floor((now - self._since) / RECOVERY_SECONDS))
        if recovered >= self._halved_from and now - self._since >= RECOVERY_SECONDS:
            self._halved_to = None
            return None
        return recovered

    def next_rise(self, now: float) -> float:
        if self._halved_to is None:
            return inf
        return now + RECOVERY_SECONDS - (now - self._since) % RECOVERY_SECONDS


class Peak:
    """The most that were in progress at once, in this minute and the one before."""

    def __init__(self) -> None:
        self._minute, self._now, self._before = -1, 0, 0

    def see(self, busy: int, now: float) -> None:
        self._turn(now)
        self._now = max(self._now, busy)

    def most(self, now: float) -> int:
        self._turn(now)
        return max(self._now, self._before)

    def _turn(self, now: float) -> None:
        minute = floor(now / MINUTE)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else 0
            self._minute, self._now = minute, 0


class Lane:
    def __init__(self, clock: Callable[[], float]) -> None:
        self.busy = 0
        self._clock = clock
        self._limits = AccountLimits()
        self._waiting: deque[asyncio.Future[float]] = deque()
        self._starts: deque[float] = deque()
        self._paused_until = -inf
        self._ceiling = Ceiling()
        self._peak = Peak()
        self._alarm: asyncio.TimerHandle | None = None

    # --- what is allowed

    @property
    def is_idle(self) -> bool:
        return not self.busy and not self._waiting

    def configure(self, limits: AccountLimits) -> None:
        self._limits = limits
        self._let_in()

    def halve(self) -> None:
        now = self._clock()
        self._peak.see(self.busy, now)
        self._ceiling.halve(now, self._limits.concurrency or self._peak.most(now))

    def pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def pause_left(self) -> float | None:
        left = self._paused_until - self._clock()
        return left if left > 0 else None

    def load(self) -> float:
        now = self._clock()
        at_most = self._at_most(now)
        share = self.busy / at_most
        return max(share, 1.0) if self._waiting or self._opens_by_time(now) > now else share

    def _at_most(self, now: float) -> float:
        known = (self._limits.concurrency, self._ceiling.at_most(now))
        return min((limit for limit in known if limit is not None), default=inf)

    def _opens_by_time(self, now: float) -> float:
        """When it is worth asking again whether a pause or the rate stands in the way; now or before: neither does."""
        self._forget_starts(now)
        is_full = self._limits.per_minute is not None and len(self._starts) >= self._limits.per_minute
        rate = self._starts[0] + MINUTE if is_full else -inf
        return max(self._paused_until, rate)

    def _forget_starts(self, now: float) -> None:
        while self._starts and self._starts[0] + MINUTE <= now:
            self._starts.popleft()

    # --- in and out

    async def enter(self, seconds: float) -> None:
        now = self._clock()
        if not self._waiting and self._has_room(now):
            self._take(now)
            return
        if self._paused_until > now + seconds:
            raise NoSlot(self.pause_left())
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._let_in()
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            self._give_up(waiter)
            raise NoSlot(self.pause_left()) from None
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    def leave(self) -> None:
        self.busy -= 1
        self._let_in()

    def _has_room(self, now: float) -> bool:
        return self.busy < self._at_most(now) and self._opens_by_time(now) <= now

    def _take(self, now: float) -> None:
        self.busy += 1
        self._peak.see(self.busy, now)
        if self._limits.per_minute is not None:
            self._starts.append(now)

    def _give_up(self, waiter: asyncio.Future[float]) -> None:
        """He may have been let in at the very moment when he stopped waiting: then he goes, having ordered nothing."""
        if waiter.done() and not waiter.cancelled():
            if (start := waiter.result()) in self._starts:
                self._starts.remove(start)
            self.leave()
        elif waiter in self._waiting:
            self._waiting.remove(waiter)

    def _let_in(self) -> None:
        now = self._clock()
        while self._waiting and (self._waiting[0].done() or self._has_room(now)):
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._take(now)
                waiter.set_result(now)
        self._set_alarm(now)

    def _set_alarm(self, now: float) -> None:
        """To look again when time alone may have made room. Who leaves makes room without it."""
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if not self._waiting:
            return
        rises = self._ceiling.next_rise(now) if self.busy >= self._at_most(now) else -inf
        when = max(self._opens_by_time(now), rises)
        if when < inf:
            self._alarm = asyncio.get_running_loop().call_later(max(when - now, 0.001), self._let_in)
