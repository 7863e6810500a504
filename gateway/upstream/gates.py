"""Whether anything is ordered at an account, or of a cell: open, shut for a while, or due for one trial order.

open --too much went wrong--> shut --time--> due --may_try--> on trial --success--> open
                                ^                                 |
                                +-------failure, twice as long----+

Times are this process's monotonic seconds. `began` is when the order in question was sent: one that was sent before
the gate shut says nothing about what shut it, however late its outcome comes.
"""

from math import inf, isnan
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

# Nobody waits longer for the outcome of a trial that never comes: another order may try then.
TRIAL_SECONDS = 420.0
# By how much two replicas may differ about when the same thing happened: one exchange, and some delay.
EXCHANGE = 2.0
LONGEST = 21_600.0
Ago = Annotated[float, Meta(ge=0, le=1e12)]
Wait = Annotated[float, Meta(ge=0, le=LONGEST)]
SHORTEST_WAIT, USUAL_WAIT, LONGEST_WAIT = 1.0, 10.0, 300.0


def seconds_to_wait(retry_after: float | None) -> float:
    """What a seller asks for, within reason: some name a day, or a moment that has passed."""
    if retry_after is None or isnan(retry_after):
        return USUAL_WAIT
    return min(max(retry_after, SHORTEST_WAIT), LONGEST_WAIT)


class Pause(Struct, frozen=True):
    """How long a gate shuts at first, and after many failed trials. Nothing at most: it opens without a trial."""

    first: float
    most: float


class Told(Struct, frozen=True, array_like=True):
    """A gate as one replica tells the others of it: in seconds ago and seconds left, which need no common clock."""

    shut_ago: Ago | None = None
    left: Wait = 0.0
    pause: Wait = 0.0
    most: Wait = 0.0
    proven_ago: Ago | None = None


NOTHING_TOLD = Told()


class _Trial(NamedTuple):
    """`whose` is told from others by its identity."""

    began: float
    whose: object


class Gate:
    def __init__(self) -> None:
        self._shut_at: float | None = None
        self._until = -inf
        self._pause = 0.0
        self._most = 0.0
        self._trial: _Trial | None = None
        self._proven = -inf
        self._proven_elsewhere = -inf
        # When the order was sent whose success opened the gate last.
        self.opened_by = -inf
        self._told_by: str | None = None

    # --- asking

    def is_shut(self, now: float) -> bool:
        """Shut, due for a trial or on trial: not simply open."""
        if self._shut_at is not None and not self._most and now >= self._until:
            self._open()
        return self._shut_at is not None

    def awaits_trial(self, now: float) -> bool:
        """Shut once, and its time is over: the next order, or the one that is out, decides."""
        return self.is_shut(now) and now >= self._until

    def lets_through(self, now: float) -> bool:
        """Whether one more order may go: any if it is open, one at a time if it is due for a trial."""
        if not self.is_shut(now):
            return True
        return now >= self._until and (self._trial is None or now >= self._trial.began + TRIAL_SECONDS)

    def is_on_trial(self, now: float) -> bool:
        """Due for a trial, and the order that decides is on its way."""
        return self.is_shut(now) and now >= self._until and not self.lets_through(now)

    # --- what happens

    def try_one(self, whose: object, now: float) -> None:
        """An order goes that `lets_through` has let through."""
        if self.is_shut(now):
            self._trial = _Trial(now, whose)

    def withdrawn(self, whose: object) -> None:
        """That order did not go after all. If it was the trial, another may go."""
        if self._trial is not None and self._trial.whose is whose:
            self._trial = None

    def succeeded(self, began: float) -> None:
        self._proven = max(self._proven, began)
        if self._shut_at is not None and began >= self._shut_at:
            self._open_by(began)

    def failed(self, pause: Pause, began: float, now: float) -> None:
        """Something happened for which a gate shuts."""
        if not self.is_shut(now):
            self._shut(now, pause.first, pause.most)
        elif self._shut_at is None or began < self._shut_at:
            return
        elif pause.most > self._most:
            self._shut(now, pause.first, pause.most)
        elif now >= self._until:
            self._shut(now, min(max(self._pause * 2, pause.first), self._most), self._most)

    def asked_to_wait(self, seconds: float, now: float) -> None:
        """Opens by itself when the time is over, unless it was shut for something worse."""
        if not self.is_shut(now):
            self._shut(now, seconds, 0.0)
        if now + seconds > self._until:
            self._until, self._told_by = now + seconds, None
        self._trial = None

    def said_nothing(self, began: float) -> None:
        """An order ended in a way that says nothing about this gate. If it was the trial, another may go."""
        if self._trial is not None and began + EXCHANGE >= self._trial.began:
            self._trial = None

    def renewed(self, now: float) -> None:
        """What it was shut for has been mended by hand."""
        self._proven = now
        self._open()

    def _open_by(self, began: float) -> None:
        self.opened_by = began
        self._open()

    def _open(self) -> None:
        self._shut_at, self._trial, self._told_by = None, None, None
        self._until, self._pause, self._most = -inf, 0.0, 0.0

    def _shut(self, now: float, pause: float, most: float) -> None:
        self._shut_at, self._trial, self._told_by = now, None, None
        self._until, self._pause, self._most = now + pause, pause, most

    # --- replicas

    def told(self, now: float) -> Told:
        """What was seen here. What others told is theirs to tell, or it would go round for ever."""
        proven = _ago(self._proven, now) if now - self._proven <= LONGEST else None
        if not self.is_shut(now) or self._shut_at is None or self._told_by is not None:
            return Told(proven_ago=proven)
        left = min(max(0.0, self._until - now), LONGEST)
        return Told(_ago(self._shut_at, now), left, self._pause, self._most, proven)

    def hear(self, told: Told, by: str, then: float) -> None:
        """`then`: when it was told, by our clock, a little late rather than early. In doubt the gate stays shut."""
        if told.proven_ago is not None:
            self._hear_of_success(then - told.proven_ago - EXCHANGE)
        if told.shut_ago is not None:
            self._hear_of_shutting(told, then - told.shut_ago, by, then)

    def _hear_of_success(self, began: float) -> None:
        self._proven_elsewhere = max(self._proven_elsewhere, began)
        if self._shut_at is not None and began > self._shut_at:
            self._open_by(began)

    def _hear_of_shutting(self, told: Told, shut_at: float, by: str, then: float) -> None:
        # One that is due for a trial there is due here: that it still is must not look like a longer pause.
        until = then + told.left if told.left else shut_at
        if shut_at <= max(self._proven, self._proven_elsewhere):
            return
        if self._shut_at is not None and max(shut_at - self._shut_at, until - self._until) <= EXCHANGE:
            return
        # Even if it was shut here as well: were the longer pause told on as our own, each would lengthen the other's.
        self._told_by = by
        self._shut_at = shut_at if self._shut_at is None else max(self._shut_at, shut_at)
        self._until = max(self._until, until)
        self._pause, self._most = max(self._pause, told.pause), max(self._most, told.most)

    def forget(self, replica: str, now: float) -> None:
        """That replica is silent: what it told is worth a trial at once, and no more waiting."""
        if self._told_by == replica:
            self._until = min(self._until, now)


def _ago(then: float, now: float) -> float:
    return max(0.0, now - then)
