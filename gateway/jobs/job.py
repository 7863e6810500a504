"""The stored state of a job: its parts and attempts.

Request, order bytes and images are documents beside the job; its plan is in its decision record. New fields need a
default and keep their meaning, since replicas of two versions share one store.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from gateway.timeouts_and_intervals import DEFAULT_JOB_TIMING, JobTiming
from providers.faults import FaultKind
from providers.order_status import TokenUsage
from providers.orders import Cell

SCHEMA_VERSION = 1


class JobState(StrEnum):
    """State of a job as its team sees it. `is_terminal`: it is final."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    def __init__(self, value: str) -> None:
        # An attribute, since every step of a job reads it several times.
        self.is_terminal = value not in ("queued", "in_progress")


class PartState(StrEnum):
    """State of some of a job's images. `is_open`: they may still be delivered."""

    WAITING = "waiting"
    BUYING = "buying"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"

    def __init__(self, value: str) -> None:
        self.is_open = value in ("waiting", "buying")


class AttemptState(StrEnum):
    """State of an order: stored, accepted by the seller with a ticket, or ended. `is_open`: it has not ended."""

    OPENED = "opened"
    TICKETED = "ticketed"
    CLOSED = "closed"

    def __init__(self, value: str) -> None:
        self.is_open = value != "closed"


class RecoveryMethod(StrEnum):
    """How to find an order whose response was lost before a ticket was received."""

    REPLAY = "replay"
    SEARCH = "search"
    CALLBACK = "callback"
    NONE = "none"


class RouteEntry(Struct, frozen=True, array_like=True):
    """One offer of the plan, as far as a job needs it.

    `timeout_seconds`: maximum duration of an attempt. `is_pollable`: whether orders can be polled; otherwise the
    response to the order is final. `account_identity`: identity of the account at which orders are placed; empty in
    jobs of older versions. `is_canary`: the seller is a canary of a policy, so the ledger counts failed orders, too.
    """

    seller: str
    adapter: str
    model: str
    cell: Cell
    max_images: int
    price: int
    ceiling: int
    timeout_seconds: float
    is_pollable: bool
    recovery_method: RecoveryMethod
    account_identity: str = ""
    is_canary: bool = False


class Part(Struct, frozen=True, kw_only=True, array_like=True):
    """Some of a job's images, by index. `tried_indexes`: the route entries that were tried for them; `attempt`: the
    number of their open attempt."""

    images: tuple[int, ...]
    state: PartState = PartState.WAITING
    tried_indexes: tuple[int, ...] = ()
    attempt: int | None = None
    fault: FaultKind | None = None


class Attempt(Struct, frozen=True, kw_only=True, array_like=True):
    """One order of a part at one route entry, and its cost in micro-USD.

    `response_lost_at`: since when it is unknown whether the seller has the order. `images_ready`: the seller has made
    the images. `image_urls`: kept only for sellers that cannot be polled.
    """

    number: int
    route_index: int
    images: tuple[int, ...]
    started_at: float
    state: AttemptState = AttemptState.OPENED
    ticket: str | None = None
    response_lost_at: float | None = None
    callback_at: float | None = None
    images_ready: bool = False
    image_urls: tuple[str, ...] = ()
    cost: int | None = None
    fault: FaultKind | None = None
    closed_at: float | None = None
    delivered_count: int = 0
    captured_amount: int = 0
    orphaned_amount: int = 0
    suspected_amount: int = 0


class TokenCount(Struct, frozen=True, array_like=True):
    """Tokens that the seller of an attempt counted: of the prompt, of the input images and of the output images."""

    attempt: int
    text: int
    image: int
    output: int


class Excess(Struct, frozen=True, array_like=True):
    """Amount that the seller of an attempt charged for delivered images beyond the hold."""

    attempt: int
    amount: int


class RetryTime(Struct, frozen=True, array_like=True):
    """When the seller of an attempt, which rejected the order, accepts orders again. Attempt 0: no order was sent."""

    attempt: int
    retry_at: float


class SellerResponse(Struct, frozen=True, kw_only=True, array_like=True):
    """The seller's explanation of an order: why it failed, or what was unusual about its success. Already redacted.

    `status`: of HTTP; None if the order was accepted and failed later. `message`: the seller's, or the gateway's reason
    why there is none. `notes`: anomalies of a success that did not prevent delivery.
    """

    status: int | None = None
    code: str | None = None
    message: str = ""
    notes: tuple[str, ...] = ()


class AttemptResponse(Struct, frozen=True, array_like=True):
    """The seller's response that explains the outcome of an attempt."""

    attempt: int
    response: SellerResponse


class JobRetention(Struct, frozen=True, array_like=True):
    """How long a job, its images and its prompt are kept after its settlement, in seconds. Nothing is kept longer than
    the job."""

    job_seconds: float = 7 * 86_400.0
    image_seconds: float = 7 * 86_400.0
    prompt_seconds: float = 7 * 86_400.0


DEFAULT_JOB_RETENTION = JobRetention()


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A team's unit of work.

    `max_attempts`: per image. `reorder_on_unknown`: order again even if the first order may have been charged.
    `hold_per_image`, `hold_per_order`: amounts held until the cost is known; `hold` is the amount held now.
    `order_prices`: cost of an order at each route entry besides its images, empty if zero. `token_counts`, `excesses`:
    for the few attempts that have any. `is_abandoned`: its workers crashed repeatedly, so nothing more is ordered.
    `retry_times`: of sellers that rejected an order temporarily. `seller_responses`: for the attempts that failed, or
    succeeded with anomalies. `timing`: as configured when the job was created. `key_id`: of the API key that created
    it. `labels`: by which the team finds the job in its list. `is_deleted`: the team deleted it, so only its costs are
    left. `batch_id`: of the batch that the job is a line of. `traceparent`, `tracestate`: of the request that created
    it, if it is traced (`gateway/trace_context.py`). `budget_key`: the id under which the budget of its API key is
    counted; empty if the key has none. `split_count`: its images are ordered in as many parts, each first at another
    entry of the route: the first ones. `retention`: as configured when the job was created. `has_deleted_images`,
    `has_deleted_prompt`: their retention has ended, and they were deleted.
    """

    id: str
    team: str
    model: str
    created_at: float
    deadline: float
    n: int
    route: tuple[RouteEntry, ...]
    hold_per_image: int
    max_attempts: int = 3
    reorder_on_unknown: bool = False
    config_hash: str = ""
    has_webhook: bool = False
    body_key: str | None = None
    client_key: str | None = None
    version: int = 0
    state: JobState = JobState.QUEUED
    parts: tuple[Part, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    is_client_confirmed: bool = False
    is_withdrawn: bool = False
    is_cancel_requested: bool = False
    is_overdue: bool = False
    finished_at: float | None = None
    fault: FaultKind | None = None
    warnings: tuple[str, ...] = ()
    milestone_count: int = 0
    schema_version: int = SCHEMA_VERSION
    token_counts: tuple[TokenCount, ...] = ()
    is_abandoned: bool = False
    hold_per_order: int = 0
    order_prices: tuple[int, ...] = ()
    excesses: tuple[Excess, ...] = ()
    retry_times: tuple[RetryTime, ...] = ()
    seller_responses: tuple[AttemptResponse, ...] = ()
    timing: JobTiming = DEFAULT_JOB_TIMING
    key_id: str = ""
    labels: tuple[str, ...] = ()
    is_deleted: bool = False
    batch_id: str = ""
    traceparent: str | None = None
    tracestate: str | None = None
    budget_key: str = ""
    split_count: int = 1
    retention: JobRetention = DEFAULT_JOB_RETENTION
    has_deleted_images: bool = False
    has_deleted_prompt: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether all of its costs are final."""
        return self.state.is_terminal and not any(attempt.state.is_open for attempt in self.attempts)

    @property
    def settled_at(self) -> float | None:
        """When all of its costs became final; None until then. Later corrections do not change it."""
        if not self.is_settled:
            return None
        return max(self.finished_at or 0.0, *[attempt.closed_at or 0.0 for attempt in self.attempts], 0.0)

    @property
    def is_confirmed(self) -> bool:
        """Whether the client counts on the job, so that it is processed even if the process that created it stops.

        A worker that started an attempt knew that the job was stored.
        """
        return self.is_client_confirmed or bool(self.attempts)

    @property
    def confirmation_deadline(self) -> float:
        """When an unconfirmed job is withdrawn."""
        return min(self.created_at + self.timing.confirmation_timeout_seconds, self.deadline)

    @property
    def hold(self) -> int:
        """Amount held for all open images, however they are split: no split may hold more than the first commit."""
        if self.state.is_terminal:
            return 0
        image_counts = [0] * self.split_count
        for part in self.parts:
            if part.state.is_open:
                image_counts[self.get_split_index(part)] += len(part.images)
        amount = self.hold_per_image * sum(image_counts)
        if not self.hold_per_order:
            return amount
        fewest_per_order = min(entry.max_images for entry in self.route)
        return amount + self.hold_per_order * sum([-(-count // fewest_per_order) for count in image_counts])

    @property
    def delivered_images(self) -> tuple[int, ...]:
        """Indexes of the delivered images."""
        images: list[int] = []
        for part in self.parts:
            if part.state is PartState.DELIVERED:
                images += part.images
        return tuple(sorted(images))

    @property
    def delivering_attempts(self) -> dict[int, int]:
        """Number of the attempt that delivered each image.

        It is the last attempt of that image: no other is started while one may still deliver it, or after it is
        delivered.
        """
        latest = {image: attempt.number for attempt in self.attempts for image in attempt.images}
        return {image: latest[image] for image in self.delivered_images}

    @property
    def captured_amount(self) -> int:
        amount = 0
        for attempt in self.attempts:
            amount += attempt.captured_amount
        return amount

    @property
    def usage(self) -> TokenUsage:
        """Tokens counted by the sellers of the delivered images; zero for sellers that do not report them."""
        delivering_numbers = {attempt.number for attempt in self.attempts if attempt.delivered_count}
        counts = [count for count in self.token_counts if count.attempt in delivering_numbers]
        return TokenUsage(
            input_text=sum(count.text for count in counts),
            input_image=sum(count.image for count in counts),
            output=sum(count.output for count in counts),
        )

    def get_attempt(self, number: int) -> Attempt | None:
        return self.attempts[number - 1] if 1 <= number <= len(self.attempts) else None

    def find_part_with_images(self, images: Iterable[int]) -> Part | None:
        """Returns the part that has all these images."""
        return next((part for part in self.parts if set(images) <= set(part.images)), None)

    def get_split_index(self, part: Part) -> int:
        """Returns the position of the route entry that is tried first for this part. All of its images share it."""
        return find_split_index(part.images[0], self.n, self.split_count) if self.split_count > 1 else 0

    def get_order_price(self, route_index: int) -> int:
        return self.order_prices[route_index] if self.order_prices else 0

    def get_excess(self, attempt: int) -> int:
        if not self.excesses:
            return 0
        return sum(excess.amount for excess in self.excesses if excess.attempt == attempt)

    def get_seller_response(self, attempt: int) -> SellerResponse | None:
        """Returns what the seller said about an attempt; None if its outcome needs no explanation."""
        return next((entry.response for entry in self.seller_responses if entry.attempt == attempt), None)

    def find_part(self, attempt: int) -> Part | None:
        """Returns the part that this attempt is still ordering."""
        return next((part for part in self.parts if part.attempt == attempt), None)

    def route_entry(self, attempt: Attempt) -> RouteEntry:
        return self.route[attempt.route_index]

    def can_poll(self, attempt: Attempt) -> bool:
        return attempt.ticket is not None and self.route_entry(attempt).is_pollable


def find_split_index(image: int, n: int, split_count: int) -> int:
    """Returns which of `split_count` parts of nearly equal size has this image. The first parts are the larger ones."""
    return image * split_count // n


def round_timestamp(now: float) -> float:
    """Rounds to milliseconds, since a stored job should stay small."""
    return round(now, 3)


def order_reference(job: str, attempt: int) -> str:
    """Returns the reference of an attempt's order, sent to the seller: unique, and leads back to the job."""
    return f"{job}-{attempt}"
