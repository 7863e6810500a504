"""How a job failed that delivered no image: what was bought for it, and whether the same request again is right.

Everything that answers for such a job asks here: the API, and the store's memory of who asked for what.
"""

from msgspec import Struct

from gateway.jobs.booking import bought
from gateway.jobs.job import Attempt, Job, State
from gateway.jobs.retrying import retry_after_of
from providers.faults import VERDICTS, Bought, FaultKind

_BY_CERTAINTY = (Bought.NO, Bought.PERHAPS, Bought.YES)


class Failure(Struct, frozen=True):
    """`bought`: over all attempts of the job, whatever the last one ended with. `fault`: that of the attempt which says
    so, or of the images that no seller took; None where no order was at fault.

    `retry_after`: in how many seconds a seller says that it takes orders; None if none said so.

    `may_be_repeated`: nothing was bought, and the same request may end better in a while. Clients that repeat by
    themselves would buy twice, or fail again, in every other case.
    """

    state: State
    bought: Bought
    fault: FaultKind | None
    may_be_repeated: bool
    retry_after: int | None = None


def classify_failure(job: Job) -> Failure:
    """For a job that has ended without an image."""
    most = max((_bought_by(attempt) for attempt in job.attempts), key=_BY_CERTAINTY.index, default=Bought.NO)
    passes = most is Bought.NO and _passes(job)
    return Failure(job.state, most, _reported_fault(job, most), passes, retry_after_of(job) if passes else None)


def may_be_asked_again(job: Job) -> bool:
    """Whether a repeated request must get a new job: this one delivered nothing, and nothing was bought."""
    return job.state.is_terminal and not job.delivered and classify_failure(job).may_be_repeated


def may_have_been_bought(job: Job) -> bool:
    """Whether it ended for its team without an image, and an order of it may have been taken."""
    if not job.state.is_terminal or job.state is State.CANCELLED or job.delivered:
        return False
    return classify_failure(job).bought is Bought.PERHAPS


def _bought_by(attempt: Attempt) -> Bought:
    """An order that is still open, or was corrected after its end, is judged by what is known of it now."""
    if attempt.orphaned or attempt.delivered or (attempt.is_open and attempt.ready):
        return Bought.YES
    if attempt.is_open or attempt.fault is None:
        return Bought.PERHAPS
    return bought(attempt.fault, attempt.cost)


def _reported_fault(job: Job, most: Bought) -> FaultKind | None:
    """A refusal of the content comes first: the team has to change its request, whatever else happened."""
    if most is Bought.NO or job.fault is FaultKind.CONTENT_REFUSED:
        return job.fault
    return next(attempt.fault for attempt in reversed(job.attempts) if _bought_by(attempt) is most)


def _passes(job: Job) -> bool:
    """A job that the deadline ended before any order was at fault has only waited too long."""
    if job.state is State.CANCELLED:
        return job.withdrawn
    if job.fault is None:
        return job.state is State.EXPIRED
    return VERDICTS[job.fault].passes
