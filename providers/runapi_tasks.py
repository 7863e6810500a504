"""What a task of RunAPI's says: its state, its pictures, what it cost, why it failed."""

from providers import reading, runapi_errors
from providers.faults import Fault, FaultKind, unless_refused
from providers.orders import Source
from providers.progress import Accepted, Failed, Progress, Working
from providers.reading import Object, Unclear, child

CENTS = 100
MICRO_CENTS = 100_000_000

# Four words are documented; the others stand in the vendor's own test fixtures, so they cost nothing to know.
WORKING, COMPLETED, FAILED = "working", "completed", "failed"
STATUSES = {
    "pending": WORKING,
    "processing": WORKING,
    "queued": WORKING,
    "running": WORKING,
    "completed": COMPLETED,
    "succeeded": COMPLETED,
    "failed": FAILED,
}


def from_task(task: Object, *, just_ordered: bool) -> Progress:
    """A task object. Right after ordering, an id is what counts: whatever else is odd, we have a ticket."""
    task_id = reading.order_id(task.get("id")) or reading.order_id(task.get("task_id"))
    status = reading.word(task.get("status"))
    state = STATUSES.get((status or "").lower())
    if state is COMPLETED and "images" in task:
        return reading.delivered(_pictures(task), _costs(task), id=task_id)
    if state is FAILED:
        return Failed(fault=_failure(task), id=task_id)
    if just_ordered and task_id:
        return Accepted(id=task_id)
    if just_ordered or status is None or state is COMPLETED:
        raise Unclear(FaultKind.UNREADABLE, message="id, status or images are missing from the task")
    if state is None:
        raise Unclear(FaultKind.UNKNOWN_WORD, code=status)
    return Working(word=status, id=task_id)


def _pictures(task: Object) -> list[Source | None]:
    images = reading.items(task, "images")
    return [reading.picture(image.get("url") if isinstance(image, dict) else image) for image in images]


def _costs(task: Object) -> tuple[object, ...]:
    """`usage.cost` in USD; until August 2026 the settlement stood in `billing`, in cents and in micro-cents."""
    settlement = child(task, "billing", "settlement")
    cents = reading.usd(settlement.get("charged_amount_cents"), CENTS)
    micro_cents = reading.usd(settlement.get("amount_micro_cents"), MICRO_CENTS)
    return child(task, "usage").get("cost"), cents, micro_cents


def _failure(task: Object) -> Fault:
    """Failed tasks are not charged; one that shows a charge all the same is believed."""
    code, said = runapi_errors.words(task)
    amount, _ = reading.cost(*_costs(task))
    kind = unless_refused(FaultKind.FAILED, code, *said)
    return Fault(kind=kind, code=code, message=reading.shown("; ".join(said)), cost=amount)
