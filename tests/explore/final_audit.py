"""The audit at the end of a run: nothing lost, nothing bought twice, every cent of the invoice in the ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from gateway.engine.job_documents import decode_image, decode_order_documents
from gateway.jobs.document_names import image_document_name
from gateway.jobs.job import Attempt, Job, order_reference
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.audit import AuditReport
from providers.faults import VERDICTS, ChargeStatus, FaultKind
from tests.explore.decision_audit import list_record_violations
from tests.explore.recovery_audit import list_recovery_violations, list_unsaved_images
from tests.explore.replica import World
from tests.explore.request_pauses import list_request_bursts
from tests.explore.scripted_uploads import compute_digest
from tests.explore.seller_dialects import SellerOrder, read_image_url
from tests.harness.memory_store.audit_and_retention import audit_partition
from tests.harness.memory_store.memory_state import AppliedCommit, StoredJob

# Errors that the surroundings of the engine cause. Any other reported error is a bug of the engine.
EXPECTED_ERRORS = (
    *("StoreUnavailable", "StoreOutcomeUnknown", "StorageUnavailable", "DownloadError"),
    *("workers in a row", "not configured in this replica"),
)
EXPECTED_COMPONENTS = {"store", "storage"}
OTHER_MILESTONES = ("queued", "in_progress", "image")
KNOWN_LINES = (LedgerLine.CAPTURE, LedgerLine.ORPHAN, LedgerLine.EXCESS)


def list_violations(world: World) -> list[str]:
    """Lists what is wrong at the end of a run, each beginning with the name of the check."""
    orders = _group_orders(world)
    violations = [*world.violations, *_check_errors(world), *_check_known_orders(world, orders), *_check_store(world)]
    for stored in world.state.jobs.values():
        violations += _check_end(stored)
        for attempt in stored.job.attempts:
            attempt_orders = orders.get(order_reference(stored.job.id, attempt.number), [])
            violations += _check_ledger(world, stored.job, attempt, attempt_orders)
        violations += list_repeated_purchases(stored.job)
        if not stored.job.is_deleted:
            violations += _check_deliveries(world, stored)
            violations += _check_inputs(world, stored, orders)
    return [
        *violations,
        *_check_history(world),
        *_check_objects(world),
        *list_record_violations(world),
        *list_recovery_violations(world),
        *list_unsaved_images(world),
        *list_request_bursts(world),
    ]


def _group_orders(world: World) -> dict[str, list[SellerOrder]]:
    orders: defaultdict[str, list[SellerOrder]] = defaultdict(list)
    for order in world.sellers.orders.values():
        orders[order.call.reference].append(order)
    return dict(orders)


def _check_errors(world: World) -> Iterator[str]:
    for error in world.errors:
        is_expected = any(text in error.message for text in EXPECTED_ERRORS)
        if error.component not in EXPECTED_COMPONENTS and not is_expected:
            yield f"internal error: {error.component} reports {error.message}"


def _check_known_orders(world: World, orders: dict[str, list[SellerOrder]]) -> Iterator[str]:
    references = {
        order_reference(stored.job.id, attempt.number)
        for stored in world.state.jobs.values()
        for attempt in stored.job.attempts
    }
    for reference, sellers_orders in orders.items():
        if reference not in references:
            yield f"order without attempt: {reference} was ordered, but no job has this attempt"
        if len(sellers_orders) > 1:
            yield f"ordered twice: {reference} is {', '.join(order.id for order in sellers_orders)}"


def _check_end(stored: StoredJob) -> Iterator[str]:
    job = stored.job
    if not job.is_settled:
        yield f"job lost: {job.id} is {job.state} and not settled"
    ends = [
        milestone.name for milestone in stored.milestones if milestone.name not in ("queued", "in_progress", "image")
    ]
    if ends != [job.state] * job.state.is_terminal:
        yield f"terminal milestone: {job.id} is {job.state}, its milestones are {ends}"


def _check_store(world: World) -> Iterator[str]:
    for partition in range(world.state.partition_count):
        report: AuditReport = audit_partition(world.state, partition, False, world.clock())
        if report.discrepancy_count:
            yield f"store audit: {report}"
    for (team, window), balance in world.state.ledger.balances.items():
        if balance.held:
            yield f"hold left: {team} has {balance.held} held for {window}"


def _check_history(world: World) -> Iterator[str]:
    """At each commit: an order begins only under a lease, its price is held until the job has ended, and the team never
    pays more than was held."""
    held, attempt_counts, previous = Counter[str](), Counter[str](), dict[str, Job]()
    for applied in world.state.history:
        job = applied.commit.job
        held[job.id] += sum(change.hold for change in applied.commit.budget_changes if len(change.window) > 7)
        if len(job.attempts) > attempt_counts[job.id] and applied.commit.fence is None:
            yield f"decision without lease: {applied.replica_id} began attempt {len(job.attempts)} of {job.id}"
        attempt_counts[job.id] = len(job.attempts)
        grown = max((change.hold + change.spend for change in applied.commit.budget_changes), default=0)
        if job.id in previous and grown > 0:
            yield f"budget exceeded: {job.id} takes {grown} more than was held for it"
        yield from _check_new_attempts(previous.get(job.id), applied)
        yield from _check_expiry(previous.get(job.id), job)
        previous[job.id] = job
        price = sum(_get_price(job, attempt) for attempt in job.attempts if attempt.state.is_open)
        if not job.state.is_terminal and not job.is_overdue and held[job.id] < price:
            yield f"hold too small: {job.id} holds {held[job.id]} while orders of {price} are open"


def _check_new_attempts(before: Job | None, applied: AppliedCommit) -> Iterator[str]:
    """Nothing is ordered for a job that has ended, is cancelled or overdue, or more often than its policy allows."""
    job = applied.commit.job
    begun = job.attempts[len(before.attempts) if before else 0 :]
    if begun and before and (before.state.is_terminal or before.is_cancel_requested or before.is_overdue):
        yield f"ordered too late: attempt {begun[0].number} of {job.id} began after its cancellation, deadline or end"
    for attempt in begun:
        for image in attempt.images:
            count = sum(image in other.images for other in job.attempts)
            if count > job.max_attempts:
                yield f"ordered too often: image {image} of {job.id} was ordered {count} times"


def _check_expiry(before: Job | None, job: Job) -> Iterator[str]:
    """The deadline does not end the wait for images that are ready: they are paid for."""
    if before is None or before.is_overdue or not job.is_overdue:
        return
    for attempt in before.attempts:
        is_ready = attempt.state.is_open and attempt.images_ready and before.find_part(attempt.number)
        if is_ready and job.attempts[attempt.number - 1].state.is_open and not job.find_part(attempt.number):
            yield f"images dropped: {job.id} expired while images of attempt {attempt.number} were ready"


def _get_price(job: Job, attempt: Attempt) -> int:
    return job.route_entry(attempt).price * len(attempt.images)


def _check_deliveries(world: World, stored: StoredJob) -> Iterator[str]:
    """Each delivered image is in the storage, and was made by the order of its attempt."""
    job = stored.job
    for index, number in job.delivering_attempts.items():
        document = stored.documents.get(image_document_name(number, index))
        image = decode_image(document) if document else None
        data = world.images.objects.get(image.key) if image else None
        if data is None:
            yield f"image lost: image {index} of {job.id} cannot be fetched"
            continue
        order = world.sellers.orders[read_image_url(data).split("/")[3]]
        if order.call.reference != order_reference(job.id, number):
            yield f"image of another order: image {index} of {job.id} was made by {order.call.reference}"


def _check_inputs(world: World, stored: StoredJob, orders: dict[str, list[SellerOrder]]) -> Iterator[str]:
    """The input images of the request are stored. Each order was made from them, and its seller could read them."""
    try:
        request = decode_order_documents(stored.documents)
    except msgspec.DecodeError:
        request = None
    if request is None:
        yield f"request lost: {stored.job.id} has no request that can be decoded"
        return
    inputs = [*request.request.sources, *([request.request.mask] if request.request.mask else [])]
    data = [world.images.objects.get(stored_input.key) for stored_input in inputs]
    if None in data:
        yield f"input lost: {stored.job.id} has inputs that are not stored"
        return
    digests = tuple(compute_digest(image) for image in data if image is not None)
    references = [order_reference(stored.job.id, attempt.number) for attempt in stored.job.attempts]
    for order in (order for reference in references for order in orders.get(reference, [])):
        if order.input_digests != digests:
            yield f"other inputs: {order.id} of {stored.job.id} was made from {order.input_digests}, not {digests}"


def _check_objects(world: World) -> Iterator[str]:
    """Each stored object belongs to a job, or is deleted as that of a job that was never created."""
    known = world.state.jobs.keys() | world.state.announced.keys()
    for key in world.images.objects:
        if key.split("/")[1] not in known:
            yield f"object without job: {key} is never deleted"


def list_remains(world: World) -> Iterator[str]:
    """Lists what is wrong after all jobs were deleted: what remains, and records that were deleted with them."""
    remaining = (*world.state.jobs, *world.state.announced, *world.state.due_times, *world.images.objects)
    if remaining:
        yield f"cleanup: {', '.join(remaining)} should be deleted"
    created = {applied.commit.job.id for applied in world.state.history}
    if missing := created - world.state.decision_records.records.keys():
        yield f"cleanup: the decision records of {', '.join(sorted(missing))} were deleted with their jobs"


def _check_ledger(world: World, job: Job, attempt: Attempt, orders: list[SellerOrder]) -> Iterator[str]:
    """The charge of an attempt is captured, orphaned or suspected: once, and with its amount."""
    charge = sum(order.charge for order in orders)
    lines = Counter[LedgerLine]()
    for entry in world.state.ledger.entries:
        if (entry.job, entry.attempt) == (job.id, attempt.number):
            lines[entry.line] += entry.amount
    known, suspected = sum(lines[line] for line in KNOWN_LINES), lines[LedgerLine.SUSPECTED]
    name = f"attempt {attempt.number} of {job.id} ({attempt.fault})"
    # The price of the prompt is held once for all images. It is charged once more if some of them are ordered again.
    if lines[LedgerLine.EXCESS] > sum(order.base_price + order.surcharge for order in orders):
        yield f"ledger: {name} exceeds its hold by {lines[LedgerLine.EXCESS]}, although its seller charged the price"
    yield from _check_lines(name, attempt, lines)
    yield from _check_shares(name, attempt, lines, orders)
    if known and suspected:
        yield f"ledger: {name} is booked as {known} and as suspected"
    elif known and known != charge:
        yield f"ledger: {name} is booked as {known}, its seller charged {charge}"
    elif charge and not known and not suspected:
        yield f"ledger: {name} is not booked, its seller charged {charge}"


def _check_shares(name: str, attempt: Attempt, lines: Counter[LedgerLine], orders: list[SellerOrder]) -> Iterator[str]:
    """The team pays for the images that it received, and for no others."""
    made_count = sum(order.image_count for order in orders)
    received = sum(order.charge for order in orders) * attempt.delivered_count // made_count if made_count else 0
    paid = lines[LedgerLine.CAPTURE] + lines[LedgerLine.EXCESS]
    if attempt.delivered_count and paid != received:
        yield f"ledger: {name} delivered {attempt.delivered_count} of {made_count} images, and {paid} is paid"


def _check_lines(name: str, attempt: Attempt, lines: Counter[LedgerLine]) -> Iterator[str]:
    if lines[LedgerLine.CAPTURE] and not attempt.delivered_count:
        yield f"ledger: {name} is captured, and nothing was delivered"
    if (
        lines[LedgerLine.SUSPECTED]
        and attempt.fault
        and VERDICTS[attempt.fault].charge_status is not ChargeStatus.UNKNOWN
    ):
        yield f"ledger: {name} is suspected, although its fault says whether it was charged"


def list_repeated_purchases(job: Job) -> Iterator[str]:
    """An image is ordered again only if nothing was charged, no image came, or the policy allows to reorder."""
    for number, attempt in enumerate(job.attempts):
        for later in job.attempts[number + 1 :]:
            shared = set(attempt.images) & set(later.images)
            if shared and not _may_reorder(job, attempt):
                yield f"bought twice: images {sorted(shared)} of {job.id} by attempts {attempt.number}, {later.number}"


def _may_reorder(job: Job, attempt: Attempt) -> bool:
    if attempt.fault in (None, FaultKind.CONTENT_REFUSED):
        return False
    match VERDICTS[attempt.fault].charge_status:
        case ChargeStatus.NOT_CHARGED:
            return True
        case ChargeStatus.UNKNOWN:
            return job.reorder_on_unknown
    return attempt.fault is FaultKind.NO_IMAGES
