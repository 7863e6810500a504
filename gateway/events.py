"""Events that the core emits to sinks: metrics and logs. The core does not depend on its sinks."""

import traceback
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from pathlib import Path

from msgspec import Struct

from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from providers.orders import Cell

# Components that report internal errors. Metrics have a series for each from the start, and no other value.
COMPONENTS = (
    *("api", "audit", "batches", "engine", "input_uploads", "result_fetcher", "storage", "store", "task", "webhooks"),
)


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events. Events contain no prompts, images, secrets or URLs."""


class JobEvent(Event, frozen=True, kw_only=True):
    """Base of the events of a job. `at`: when it happened, in Unix seconds of the clock that stamps jobs. `config`: the
    hash of the configuration with which the job was accepted. `traceparent`: of the request that created it."""

    at: float
    job: str
    config: str
    traceparent: str | None = None


class OfferEvent(JobEvent, frozen=True, kw_only=True):
    """Base of the events of a job at one seller's offer."""

    seller: str
    cell: Cell


class AttemptEvent(OfferEvent, frozen=True, kw_only=True):
    """Base of the events of one attempt."""

    attempt: int


class JobAccepted(JobEvent, frozen=True, kw_only=True):
    """A job was stored and will be processed, even if this process stops. Its line is at level debug."""

    team: str
    model: str
    images: int
    cell: Cell
    policy: str


class JobEnded(JobEvent, frozen=True, kw_only=True):
    """A job reached its final state for its team. `seconds` since it was accepted.

    `queued_seconds`: those of them until its first order. `sellers`: those that delivered its images.
    `captured_amount`: the micro-USD that its team pays.
    """

    team: str
    model: str
    cell: Cell
    state: JobState
    delivered: int
    images: int
    seconds: float
    queued_seconds: float
    sellers: tuple[str, ...]
    captured_amount: int
    fault: FaultKind | None


class AttemptRecorded(AttemptEvent, frozen=True, kw_only=True):
    """An attempt was stored; its order is about to be sent. Its line is at level debug."""

    images: int


class OrderAccepted(AttemptEvent, frozen=True, kw_only=True):
    """A seller accepted an order, `seconds` after its attempt started. Its line is at level debug."""

    seconds: float


class OrderObserved(AttemptEvent, frozen=True, kw_only=True):
    """A poll found that an order has ended. Its line is at level debug.

    `polls`: of this order, by this process. `lag_seconds`: since the order ended, or longer: by the seller's own
    timestamp, the callback, or the previous poll. `saved_seconds`: how much later the poll was due without callbacks.
    """

    polls: int
    lag_seconds: float
    saved_seconds: float


class ImageStored(AttemptEvent, frozen=True, kw_only=True):
    """An image of a seller was downloaded, converted and stored. Its line is at level debug.

    `is_as_ordered`: whether it has the size and format that were ordered.
    """

    model: str
    bytes: int
    download_seconds: float
    store_seconds: float
    is_as_ordered: bool


class AttemptEnded(AttemptEvent, frozen=True, kw_only=True):
    """An attempt ended. `fault` is None if all images were delivered; then its line is at level debug, unless there are
    `seller_notes`. `expected_seconds`: the p90 of its offer; None if that is no longer configured.

    `seller_status`, `seller_code`, `seller_message`: why, as the seller said it, redacted; `seller_notes`: anomalies of
    its answer that did not prevent delivery.
    """

    team: str
    model: str
    images: int
    delivered: int
    seconds: float
    expected_seconds: float | None
    fault: FaultKind | None
    seller_status: int | None = None
    seller_code: str | None = None
    seller_message: str | None = None
    seller_notes: tuple[str, ...] | None = None


class OrderSlotGranted(OfferEvent, frozen=True, kw_only=True):
    """An order may be sent to an account, after it waited `seconds` for its turn. Its line is at level debug."""

    account: str
    seconds: float


class OfferSkipped(OfferEvent, frozen=True, kw_only=True):
    """No order was sent to this seller: its upload of the inputs failed, its account had no free slot, or it is no
    longer configured. The next seller is tried.
    """

    fault: FaultKind
    seller_status: int | None = None
    seller_code: str | None = None
    seller_message: str | None = None


class FailoverStarted(JobEvent, frozen=True, kw_only=True):
    """The next attempt for images that another seller did not deliver was started."""

    attempt: int
    from_seller: str
    to_seller: str
    reason: FaultKind | None


class LedgerEntryPosted(AttemptEvent, frozen=True, kw_only=True):
    """A ledger entry was written for the job's `day`. `amount` in micro-USD; negative if it corrects an earlier
    entry. The line of a new capture is at level debug."""

    team: str
    model: str
    line: LedgerLine
    amount: int
    images: int
    day: str


class PriceMismatch(AttemptEvent, frozen=True, kw_only=True):
    """A seller charged a different price per image (micro-USD) than configured. `difference`: of the whole order,
    negative if it charged less."""

    model: str
    expected_price: int
    charged_price: int
    difference: int


class SellerCallStep(StrEnum):
    """Purpose of an HTTP call to a seller."""

    UPLOAD = "upload"
    SUBMIT = "submit"
    POLL = "poll"
    SEARCH = "search"
    RESEND = "resend"
    DOWNLOAD = "download"


class SellerCallEnded(JobEvent, frozen=True, kw_only=True):
    """An HTTP call to a seller ended. It has no line in the log, and is emitted only if traces are exported.

    `attempt`: None if it uploaded an input image, which may be used by several orders. `status`: of HTTP; None
    without an answer, and of downloads. `fault`: why no answer or image was received.
    """

    seller: str
    attempt: int | None
    step: SellerCallStep
    seconds: float
    status: int | None = None
    fault: str | None = None


class LateImagesReceived(JobEvent, frozen=True, kw_only=True):
    """Images arrived after their attempt was closed. They are booked as orphan and not listed in the job."""

    attempt: int
    seller: str
    images: int


class JobReclaimed(JobEvent, frozen=True, kw_only=True):
    """A job was reclaimed from a stopped replica. `reclaims`: claims since its last progress."""

    reclaims: int


class RateLimitExceeded(Event, frozen=True, kw_only=True):
    """A request was refused because of a rate limit. Its line is at level debug.

    `owner`: whose limit, `team` or `key`; `limit`: `requests`, `images` or `jobs`.
    """

    team: str
    owner: str
    limit: str


class BatchEnded(Event, frozen=True, kw_only=True):
    """A batch ended. `lines`: of its input file; `completed` have images, `failed` have an error."""

    batch: str
    team: str
    status: str
    lines: int
    completed: int
    failed: int
    seconds: float


class ApiKeyChanged(Event, frozen=True, kw_only=True):
    """An admin created, changed, rotated or revoked an API key through the admin API.

    `key`: its id, never its secret; `actor`: the id of the admin's key; `source`: the admin's address.
    """

    action: str
    key: str
    team: str | None
    actor: str
    source: str


class ErrorReported(Event, frozen=True, kw_only=True):
    """An internal error; the previous state stays active where possible.

    `component`: the component that failed; `task`: the long-lived task that failed and is restarted.
    """

    component: str
    message: str
    job: str | None = None
    request: str | None = None
    task: str | None = None


class TaskRecovered(Event, frozen=True, kw_only=True):
    """A long-lived task works again. It had failed `failures` times in a row, for `seconds` altogether."""

    task: str
    failures: int
    seconds: float


class CommitResult(StrEnum):
    """Result of a commit. The last three: the store did not answer, has no room for new jobs, or may still apply it."""

    APPLIED = "applied"
    CONFLICT = "conflict"
    LEASE_LOST = "lease_lost"
    BUDGET_EXCEEDED = "budget_exceeded"
    DUPLICATE = "duplicate"
    KEY_REUSED = "key_reused"
    UNAVAILABLE = "unavailable"
    FULL = "full"
    UNKNOWN = "unknown"


class StoreCommitted(Event, frozen=True, kw_only=True):
    """A commit of a job was answered, or failed. It has no line in the log: an error is reported by its own event."""

    outcome: CommitResult
    seconds: float


class CallbackOutcome(StrEnum):
    """Result of processing a callback."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    UNCHECKED = "unchecked"
    OTHER_ORDER = "other_order"
    DEFERRED = "deferred"
    FORGED = "forged"
    UNKNOWN = "unknown"


class CallbackHandled(Event, frozen=True, kw_only=True):
    """A callback was processed.

    Logged only if `forged` (invalid signature) or `unknown` (invalid URL), once a minute with the count.
    """

    adapter: str
    outcome: CallbackOutcome
    job: str | None = None


class ConfigReloaded(Event, frozen=True, kw_only=True):
    """The configuration was reloaded: applied, or rejected because of this many problems."""

    applied: bool
    config: str
    problems: int


class RequestCompleted(Event, frozen=True, kw_only=True):
    """A request was completed.

    `at`: when it ended, in Unix seconds. `route` is the pattern, never the path. `waited_seconds`: part of `seconds`
    spent waiting for the job, if the request is about one; `client_seconds`: part spent receiving the body and sending
    the response; `fetch_seconds`: part spent fetching input images. `traceparent`: of the request's own span if traces
    are exported, else of the client's; `client_span`: the client's span, if it is another one.
    """

    at: float
    id: str
    method: str
    route: str
    status: int
    seconds: float
    waited_seconds: float | None = None
    client_seconds: float = 0.0
    fetch_seconds: float = 0.0
    team: str | None = None
    job: str | None = None
    traceparent: str | None = None
    client_span: str | None = None


@cache
def get_event_name(event_class: type[Event]) -> str:
    """Returns the name of an event in the log: JobAccepted → job accepted."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in event_class.__name__).strip()


EventSink = Callable[[Event], None]


class ComponentError(Exception):
    """A component failed. The message is for operators and contains no text from clients or sellers.

    `component` names the component, as in `ErrorReported`. `is_public`: the message has no path and no address, and
    `/readyz` may show it. `gateway/__init__.py` draws the tree of errors.
    """

    component = "engine"
    is_public = False


def make_error_event(error: BaseException, task: str | None = None, job: str | None = None) -> ErrorReported:
    """Returns the event that reports an error. Only a ComponentError's own message is used."""
    if isinstance(error, ComponentError):
        return ErrorReported(component=error.component, message=str(error), task=task, job=job)
    return ErrorReported(component="task" if task else "engine", message=describe_exception(error), task=task, job=job)


def describe_exception(error: BaseException) -> str:
    """Describes an exception by type and source line. Never contains its message, which may hold client data."""
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
