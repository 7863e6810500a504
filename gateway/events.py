"""What the core tells of itself: frozen facts for whoever listens (metrics, logs). It never asks who does."""

import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from providers.orders import Cell


class Event(Struct, frozen=True, kw_only=True):
    """Something happened. No prompt, image, secret or address is ever part of one."""


class JobAccepted(Event, frozen=True, kw_only=True):
    """It is kept, and will be worked on whatever happens."""

    job: str
    team: str
    model: str
    images: int
    cell: Cell
    policy: str
    config: str


class JobEnded(Event, frozen=True, kw_only=True):
    """For its team: nothing changes for it any more. `seconds` since it was accepted."""

    job: str
    team: str
    model: str
    cell: Cell
    state: JobState
    delivered: int
    images: int
    seconds: float
    fault: FaultKind | None
    config: str


class AttemptRecorded(Event, frozen=True, kw_only=True):
    """It is kept that an order is about to be sent."""

    job: str
    attempt: int
    seller: str
    cell: Cell
    images: int
    config: str


class AttemptEnded(Event, frozen=True, kw_only=True):
    """What became of the order. `fault` is None where all images were delivered."""

    job: str
    attempt: int
    team: str
    seller: str
    model: str
    cell: Cell
    images: int
    delivered: int
    seconds: float
    fault: FaultKind | None
    config: str


class FailoverStarted(Event, frozen=True, kw_only=True):
    """The next attempt for images that another seller did not deliver."""

    job: str
    attempt: int
    from_seller: str
    to_seller: str
    reason: FaultKind | None
    config: str


class LedgerEntryPosted(Event, frozen=True, kw_only=True):
    """An entry of the ledger, on its job's `day`. `amount` in micro-USD, negative where it corrects another one."""

    job: str
    attempt: int
    team: str
    seller: str
    model: str
    cell: Cell
    line: LedgerLine
    amount: int
    images: int
    day: str
    config: str


class PriceMismatch(Event, frozen=True, kw_only=True):
    """A seller charged another amount than its price, per image in micro-USD."""

    job: str
    attempt: int
    seller: str
    cell: Cell
    expected_price: int
    charged_price: int
    config: str


class LateImagesReceived(Event, frozen=True, kw_only=True):
    """Images arrived after their attempt had been closed. They are booked as an orphan; the job does not list them."""

    job: str
    attempt: int
    seller: str
    images: int


class JobReclaimed(Event, frozen=True, kw_only=True):
    """It was taken over from an owner that is gone; `reclaims` times since anybody last got on with it."""

    job: str
    reclaims: int
    config: str


class ErrorReported(Event, frozen=True, kw_only=True):
    """Something of ours does not work as it should; what was in force goes on where it can. `task`: the long-lived task
    that failed, and is started again."""

    component: str
    message: str
    job: str | None = None
    request: str | None = None
    task: str | None = None


class TaskRecovered(Event, frozen=True, kw_only=True):
    """A long-lived task works again after so many failures in a row, over so many seconds."""

    task: str
    failures: int
    seconds: float


class CallbackOutcome(StrEnum):
    """What a callback turned out to be."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    UNCHECKED = "unchecked"
    DEFERRED = "deferred"
    FORGED = "forged"
    UNKNOWN = "unknown"


class CallbackHandled(Event, frozen=True, kw_only=True):
    """A request to a callback address. A line only if it was `forged` (a wrong signature at an address of ours) or
    `unknown` (no address of ours): one a minute, the last of so many (`repeated`)."""

    adapter: str
    outcome: CallbackOutcome
    job: str | None = None


class ConfigReloaded(Event, frozen=True, kw_only=True):
    """The configuration was read again: taken, or refused for these many problems."""

    applied: bool
    config: str
    problems: int


class RequestCompleted(Event, frozen=True, kw_only=True):
    """`route` is its pattern, never a path. `waited_seconds`: those of its `seconds` that were spent waiting for the job."""

    id: str
    method: str
    route: str
    status: int
    seconds: float
    waited_seconds: float = 0.0
    team: str | None = None
    job: str | None = None


EventSink = Callable[[Event], None]


class ComponentError(Exception):
    """A part of the gateway cannot do its work. The text is written for operators: it names the part's own trouble, and
    nothing that a caller or a seller said. `component` is the part, as in `ErrorReported`."""

    component = "engine"


def make_error_event(error: BaseException, task: str | None = None, job: str | None = None) -> ErrorReported:
    """The event that reports an error: in its own words if they are meant for operators."""
    if isinstance(error, ComponentError):
        return ErrorReported(component=error.component, message=str(error), task=task, job=job)
    return ErrorReported(component="task" if task else "engine", message=describe_exception(error), task=task, job=job)


def describe_exception(error: BaseException) -> str:
    """A fault of ours in words that can be logged: its kind and its place, never its text, which may be anybody's."""
    frames = traceback.extract_tb(error.__traceback__)
    own_frames = [frame for frame in frames if "gateway" in frame.filename or "providers" in frame.filename] or list(
        frames
    )
    location = (
        f" at {Path(own_frames[-1].filename).name}:{own_frames[-1].lineno} in {own_frames[-1].name}"
        if own_frames
        else ""
    )
    return f"{type(error).__name__}{location}"
