"""Parsing of RunAPI's tasks: status, images, cost and failure."""

from providers import parsing
from providers.faults import Fault, FaultKind, detect_content_refusal
from providers.order_status import Accepted, Failed, InProgress, Progress
from providers.orders import ImageSource
from providers.parsing import JsonObject, ParseError, get_object
from providers.runapi import errors

CENTS_PER_USD = 100
MICRO_CENTS_PER_USD = 100_000_000

# Four statuses are documented. The others appear in the seller's own test fixtures.
WORKING, COMPLETED, FAILED = "working", "completed", "failed"
STATES_BY_STATUS = {
    "pending": WORKING,
    "processing": WORKING,
    "queued": WORKING,
    "running": WORKING,
    "completed": COMPLETED,
    "succeeded": COMPLETED,
    "failed": FAILED,
}


def from_task(task: JsonObject, *, is_new: bool) -> Progress:
    """Parses a task. The answer to a submit needs only an id, with which the order can be polled."""
    task_id = parsing.parse_order_id(task.get("id")) or parsing.parse_order_id(task.get("task_id"))
    status = parsing.parse_code(task.get("status"))
    state = STATES_BY_STATUS.get((status or "").lower())
    if state is COMPLETED and "images" in task:
        return parsing.status_from_images(_parse_images(task), _list_costs(task), id=task_id)
    if state is FAILED:
        return Failed(fault=_parse_failure(task), id=task_id)
    if is_new and task_id:
        return Accepted(id=task_id)
    if is_new or status is None or state is COMPLETED:
        raise ParseError(FaultKind.UNREADABLE, message="id, status or images are missing from the task")
    if state is None:
        raise ParseError(FaultKind.UNKNOWN_STATUS, code=status)
    return InProgress(status=status, id=task_id)


def _parse_images(task: JsonObject) -> list[ImageSource | None]:
    images = parsing.get_list(task, "images")
    return [parsing.parse_image(image.get("url") if isinstance(image, dict) else image) for image in images]


def _list_costs(task: JsonObject) -> tuple[object, ...]:
    """Lists candidates for the cost: `usage.cost` in USD, and `billing` in cents and micro-cents (to August 2026)."""
    settlement = get_object(task, "billing", "settlement")
    cents = parsing.convert_to_usd(settlement.get("charged_amount_cents"), CENTS_PER_USD)
    micro_cents = parsing.convert_to_usd(settlement.get("amount_micro_cents"), MICRO_CENTS_PER_USD)
    return get_object(task, "usage").get("cost"), cents, micro_cents


def _parse_failure(task: JsonObject) -> Fault:
    """Parses the failure. Failed tasks are not charged, unless the task itself reports a cost."""
    code, messages = errors.parse_code_and_messages(task)
    amount, _ = parsing.parse_cost(*_list_costs(task))
    kind = detect_content_refusal(FaultKind.ORDER_FAILED, code, *messages)
    return Fault(kind=kind, code=code, message=parsing.sanitize_text("; ".join(messages)), cost=amount)
