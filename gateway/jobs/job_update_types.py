"""Updates of a job. Facts are accepted from any source, at any time; decisions need the lease's fence.

A late fact changes costs only, never a terminal state.
"""

from msgspec import Struct

from gateway.jobs.job import SellerResponse
from providers.faults import FaultKind
from providers.order_status import TokenUsage


class Fact(Struct, frozen=True, kw_only=True):
    """Something that happened, whichever component reports it."""


class OrderFact(Fact, frozen=True, kw_only=True):
    """A fact about one attempt's order."""

    attempt: int


class TicketReceived(OrderFact, frozen=True, kw_only=True):
    """The seller accepted the order and returned this ticket."""

    ticket: str


class ResponseLost(OrderFact, frozen=True, kw_only=True):
    """The order was sent and its response is lost. It must be searched for before another order is sent."""

    fault: FaultKind = FaultKind.RESPONSE_LOST
    seller_response: SellerResponse | None = None


class CallbackReceived(OrderFact, frozen=True, kw_only=True):
    """The seller called the attempt's callback URL, so it has the order. The result must be polled."""


class ImagesReady(OrderFact, frozen=True, kw_only=True):
    """The seller has produced the images. From now on only their delivery or their expiry ends the attempt.

    `cost`, `usage`: the amount and the tokens that the seller reports it charged. `made_count`: images it produced.
    """

    cost: int | None = None
    made_count: int | None = None
    image_urls: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    seller_response: SellerResponse | None = None


class ImagesStored(OrderFact, frozen=True, kw_only=True):
    """These images (by index) are stored.

    `made_count`: images the seller produced and charged, if known; `missing_fault`: why the others are missing.
    """

    images: tuple[int, ...]
    made_count: int | None = None
    cost: int | None = None
    missing_fault: FaultKind = FaultKind.NO_IMAGES
    warnings: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    seller_response: SellerResponse | None = None


class OrderFailed(OrderFact, frozen=True, kw_only=True):
    """The seller rejected the order, or reports that it failed.

    `cost`: the amount that it charged nevertheless; `retry_after`: seconds until it accepts orders again.
    `is_rejection`: one sending of the order failed. That proves nothing if another sending of it got a ticket.
    """

    fault: FaultKind
    cost: int | None = None
    retry_after: float | None = None
    seller_response: SellerResponse | None = None
    is_rejection: bool = False


class JobConfirmed(Fact, frozen=True, kw_only=True):
    """The client received the response, or repeated the request."""


class CancelRequested(Fact, frozen=True, kw_only=True):
    """The team cancelled the job. Images that are not ordered yet are dropped; running orders are awaited."""


class JobContentDeleted(Fact, frozen=True, kw_only=True):
    """The team deleted the settled job: its request, its images and what sellers said. Its costs are kept."""


class RetentionEnded(Fact, frozen=True, kw_only=True):
    """The retention of the images or the prompt of a settled job has ended, and they are deleted."""

    images: bool = False
    prompt: bool = False


class Decision(Struct, frozen=True, kw_only=True):
    """A decision of the job worker. Its fence proves that the worker holds the lease."""

    fence: int


class AttemptStarted(Decision, frozen=True, kw_only=True):
    """These images are about to be ordered at this route entry. Must be stored before the order is sent."""

    route_index: int
    images: tuple[int, ...]


class OrderRejected(Decision, frozen=True, kw_only=True):
    """This worker's sending of an order that workers may send again was rejected, or did not reach the seller.

    A decision: after the lease has ended, another worker may have sent the order again, and the seller may have
    accepted that. The fence is the one under which the order was sent.
    """

    failure: OrderFailed


class AttemptAbandoned(Decision, frozen=True, kw_only=True):
    """The worker stops waiting for this order: not found in time, timed out, or its images are not available.

    `is_lost`: the worker knew no ticket to poll. If one is saved by now, the order is found.
    """

    attempt: int
    fault: FaultKind
    seller_response: SellerResponse | None = None
    is_lost: bool = False


class PartAbandoned(Decision, frozen=True, kw_only=True):
    """No seller is left for these images. `retry_after`: seconds until a seller that was not tried accepts orders."""

    images: tuple[int, ...]
    fault: FaultKind | None = None
    retry_after: float | None = None


class JobExpired(Decision, frozen=True, kw_only=True):
    """The deadline has passed."""


class JobWithdrawn(Decision, frozen=True, kw_only=True):
    """The client may have received an error and did not repeat the request, so nothing is ordered."""


class JobAbandoned(Decision, frozen=True, kw_only=True):
    """Workers of this job crashed repeatedly, so nothing more is ordered. Open orders are tracked to their end."""


JobUpdate = Fact | Decision
