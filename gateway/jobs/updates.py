"""What can happen to a job. Facts are taken from anyone with evidence, at any time; decisions need the lease's fence.

A late fact changes money only, never a terminal state.
"""

from msgspec import Struct

from providers.faults import FaultKind
from providers.order_status import TokenUsage


class Fact(Struct, frozen=True, kw_only=True):
    """Something that is so, whoever says it."""


class OrderFact(Fact, frozen=True, kw_only=True):
    """A fact about one attempt's order."""

    attempt: int


class TicketReceived(OrderFact, frozen=True, kw_only=True):
    """The seller has taken the order, and this is what to come back with."""

    ticket: str


class ResponseLost(OrderFact, frozen=True, kw_only=True):
    """The order left, and whether the seller has it is not known: it must be traced before anything is bought again."""

    fault: FaultKind = FaultKind.RESPONSE_LOST


class CallbackReceived(OrderFact, frozen=True, kw_only=True):
    """The seller called back on this attempt's own address, so it has the order. What became of it must be asked."""


class ImagesReady(OrderFact, frozen=True, kw_only=True):
    """The seller has made them: from here on only their expiry ends the attempt. `cost` is what it says it charged.

    `usage`: the tokens that it says it counted.
    """

    cost: int | None = None
    image_urls: tuple[str, ...] = ()
    usage: TokenUsage | None = None


class ImagesStored(OrderFact, frozen=True, kw_only=True):
    """These images (by index) lie in our store. `made_count`: how many pictures the seller made and charged for, if known.

    `missing_fault` says why the others of the attempt do not.
    """

    images: tuple[int, ...]
    made_count: int | None = None
    cost: int | None = None
    missing_fault: FaultKind = FaultKind.NO_IMAGES
    warnings: tuple[str, ...] = ()
    usage: TokenUsage | None = None


class OrderFailed(OrderFact, frozen=True, kw_only=True):
    """The seller did not take the order, or says that it failed. `cost` is what it says it charged all the same.

    `retry_after`: in how many seconds a seller that did not take it wants to be asked again, if it says so.
    """

    fault: FaultKind
    cost: int | None = None
    retry_after: float | None = None


class JobConfirmed(Fact, frozen=True, kw_only=True):
    """Its client got the answer that it is accepted, or has repeated the request."""


class CancelRequested(Fact, frozen=True, kw_only=True):
    """The team wants no more of it: what is not bought yet is dropped, what is running is awaited."""


class Decision(Struct, frozen=True, kw_only=True):
    """Something we choose to do: only whoever holds the lease may, and its fence proves it."""

    fence: int


class AttemptStarted(Decision, frozen=True, kw_only=True):
    """These images are about to be ordered at this place of the route. Nothing may be sent before this is saved."""

    route_index: int
    images: tuple[int, ...]


class AttemptAbandoned(Decision, frozen=True, kw_only=True):
    """We stop waiting for this order: not traced in time, overdue, or its pictures cannot be had."""

    attempt: int
    fault: FaultKind


class PartAbandoned(Decision, frozen=True, kw_only=True):
    """No seller is left for these images. `retry_after`: when a seller that was not even asked takes orders."""

    images: tuple[int, ...]
    fault: FaultKind | None = None
    retry_after: float | None = None


class JobExpired(Decision, frozen=True, kw_only=True):
    """The deadline is over."""


class JobWithdrawn(Decision, frozen=True, kw_only=True):
    """Its client may have got an error instead of the job, and has not repeated the request: nothing is bought."""


class JobAbandoned(Decision, frozen=True, kw_only=True):
    """Its workers crashed early several times: nothing more is bought. Open orders are followed to their end."""


JobUpdate = Fact | Decision
