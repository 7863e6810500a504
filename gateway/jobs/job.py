"""What a job remembers: the team's images, the parts they are bought in, and every attempt to buy them.

Only what transitions need is here; what is written once (request, plan, order bytes, pictures) lies beside the job.
Fields may be appended with a default and never change their meaning: replicas of two versions share one store.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from providers.faults import FaultKind
from providers.order_status import TokenUsage
from providers.orders import Cell

SCHEMA_VERSION = 1
# How long the caller of an unconfirmed job may take to ask again: as long as clients repeat by themselves.
CONFIRMATION_TIMEOUT_SECONDS = 30.0


class JobState(StrEnum):
    """A job as its team sees it."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.IN_PROGRESS)


class PartState(StrEnum):
    WAITING = "waiting"
    BUYING = "buying"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"

    @property
    def is_open(self) -> bool:
        return self in (PartState.WAITING, PartState.BUYING)


class AttemptState(StrEnum):
    OPENED = "opened"
    TICKETED = "ticketed"
    CLOSED = "closed"


class RecoveryMethod(StrEnum):
    """How an order can be found again whose answer was lost before it showed a ticket."""

    REPLAY = "replay"
    SEARCH = "search"
    CALLBACK = "callback"
    NONE = "none"


class RouteEntry(Struct, frozen=True, array_like=True):
    """One offer of the plan, best first, as far as a job must know it. `timeout_seconds` is an attempt's deadline in seconds.

    `pollable`: whether an order's ticket can be asked about; where it cannot, the answer to its submit is final.
    `account_identity`: the identity of the account that orders are placed with; jobs of older versions do not know it.
    """

    seller: str
    adapter: str
    model: str
    cell: Cell
    max_images: int
    price: int
    ceiling: int
    timeout_seconds: float
    pollable: bool
    recovery_method: RecoveryMethod
    account_identity: str = ""


class Part(Struct, frozen=True, kw_only=True, array_like=True):
    """Some of a job's images, by index. `tried_indexes`: the places that were tried for them; `attempt`: the open one."""

    images: tuple[int, ...]
    state: PartState = PartState.WAITING
    tried_indexes: tuple[int, ...] = ()
    attempt: int | None = None
    fault: FaultKind | None = None


class Attempt(Struct, frozen=True, kw_only=True, array_like=True):
    """One try of a part on one offer, and what it cost whom, in micro-USD.

    `response_lost_at`: since when nobody knows whether the seller has the order. `images_ready`: the seller has made the pictures.
    `image_urls` are where they lie, kept only for sellers that cannot be asked again.
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

    @property
    def is_open(self) -> bool:
        return self.state is not AttemptState.CLOSED


class TokenCount(Struct, frozen=True, array_like=True):
    """What the seller of an attempt counted: tokens of the prompt, of the input images, and of its pictures."""

    attempt: int
    text: int
    image: int
    output: int


class Excess(Struct, frozen=True, array_like=True):
    """What the seller of an attempt billed for delivered images, beyond what was set aside for them."""

    attempt: int
    amount: int


class RetryTime(Struct, frozen=True, array_like=True):
    """When the seller of an attempt, which did not take the order, wants to be asked again. 0: there was no attempt."""

    attempt: int
    retry_at: float


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A team's unit of work. `max_attempts` is the most attempts per image; `reorder_on_unknown` says to buy again where the first order
    may have been taken; `hold_per_image` is set aside per image until the bill is known, and `hold_per_order` per order;
    `hold` is what is set aside now.
    `order_prices`: what every order at each place of the route costs besides its images, if that is anything.
    `tokens` and `excesses`: of those few attempts that have any, so that they are no fields of every attempt.
    `abandoned`: its workers crashed early several times, so nothing more is bought for it. `retry_times`: the retry
    times of sellers that were too busy to take an order."""

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
    client_confirmed: bool = False
    withdrawn: bool = False
    cancel_requested: bool = False
    overdue: bool = False
    finished_at: float | None = None
    fault: FaultKind | None = None
    warnings: tuple[str, ...] = ()
    milestone_count: int = 0
    schema_version: int = SCHEMA_VERSION
    token_counts: tuple[TokenCount, ...] = ()
    abandoned: bool = False
    hold_per_order: int = 0
    order_prices: tuple[int, ...] = ()
    excesses: tuple[Excess, ...] = ()
    retry_times: tuple[RetryTime, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Nothing about its money is open any more."""
        return self.state.is_terminal and not any(attempt.is_open for attempt in self.attempts)

    @property
    def is_confirmed(self) -> bool:
        """Whether its caller counts on it, so that it is bought whatever becomes of the process that accepted it.

        The process that opened an attempt knew that the job was accepted.
        """
        return self.client_confirmed or bool(self.attempts)

    @property
    def confirmation_deadline(self) -> float:
        """When an unconfirmed job is withdrawn."""
        return min(self.created_at + CONFIRMATION_TIMEOUT_SECONDS, self.deadline)

    @property
    def hold(self) -> int:
        """For the open images together, however they are split: no split must make it more than was asked for."""
        if self.state.is_terminal:
            return 0
        images = sum(len(part.images) for part in self.parts if part.state.is_open)
        fewest_per_order = min(entry.max_images for entry in self.route)
        return self.hold_per_image * images + self.hold_per_order * -(-images // fewest_per_order)

    @property
    def delivered_images(self) -> tuple[int, ...]:
        """The images that are there, by index."""
        return self._list_images(PartState.DELIVERED)

    @property
    def delivering_attempts(self) -> dict[int, int]:
        """The number of the attempt that delivered each image. It is the latest for that image: while an order may
        still deliver an image, no other is opened for it, and once it is delivered none is."""
        latest = {image: attempt.number for attempt in self.attempts for image in attempt.images}
        return {image: latest[image] for image in self.delivered_images}

    @property
    def captured_amount(self) -> int:
        return sum(attempt.captured_amount for attempt in self.attempts)

    @property
    def usage(self) -> TokenUsage:
        """The tokens that the sellers of the delivered images counted; zeros where none tells them."""
        delivering_numbers = {attempt.number for attempt in self.attempts if attempt.delivered_count}
        counts = [count for count in self.token_counts if count.attempt in delivering_numbers]
        return TokenUsage(
            input_text=sum(count.text for count in counts),
            input_image=sum(count.image for count in counts),
            output=sum(count.output for count in counts),
        )

    def _list_images(self, state: PartState) -> tuple[int, ...]:
        return tuple(sorted(image for part in self.parts if part.state is state for image in part.images))

    def get_attempt(self, number: int) -> Attempt | None:
        return self.attempts[number - 1] if 1 <= number <= len(self.attempts) else None

    def find_part_with_images(self, images: Iterable[int]) -> Part | None:
        """Returns the part that has all these images."""
        return next((part for part in self.parts if set(images) <= set(part.images)), None)

    def get_order_price(self, route_index: int) -> int:
        return self.order_prices[route_index] if self.order_prices else 0

    def get_excess(self, attempt: int) -> int:
        return sum(excess.amount for excess in self.excesses if excess.attempt == attempt)

    def find_part(self, attempt: int) -> Part | None:
        """The part that this attempt is still buying."""
        return next((part for part in self.parts if part.attempt == attempt), None)

    def route_entry(self, attempt: Attempt) -> RouteEntry:
        return self.route[attempt.route_index]

    def can_poll(self, attempt: Attempt) -> bool:
        return attempt.ticket is not None and self.route_entry(attempt).pollable


def round_timestamp(now: float) -> float:
    """A moment as it is remembered: milliseconds are enough, and a blob has to stay small."""
    return round(now, 3)


def order_reference(job: str, attempt: int) -> str:
    """Our own name for an attempt's order, shown to the seller: unique for ever, and leads back to the job."""
    return f"{job}-{attempt}"
