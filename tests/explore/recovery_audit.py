"""The audit of recovery: each order is searched for, polled, fetched and awaited for as long as it should be.

It compares the commits of a run with what arrived at the sellers.
"""

from collections.abc import Iterator

from gateway.jobs.job import Attempt, Job, RecoveryMethod, order_reference
from gateway.store.base import FIRST_FENCE
from providers.faults import VERDICTS, ChargeStatus, FaultKind
from tests.explore.replica import World
from tests.explore.request_pauses import find_resend_pause, find_search_pause
from tests.explore.seller_dialects import SellerOrder
from tests.explore.seller_scripts import QueryFault
from tests.explore.sellers_config import LEASE_SECONDS, TIMING
from tests.harness.memory_store.memory_state import AppliedCommit, Claim

# These faults count as a failed download: the image is missing or invalid.
COUNTED_FAULTS = (QueryFault.GARBLED, QueryFault.NOT_FOUND)
UNREADABLE_POLLS = 3
# A worker ends a search when its last query is answered.
MAX_DELAY_SECONDS = 5.0
CALLBACK_SECONDS = SAVING_SECONDS = 1.0


def list_recovery_violations(world: World) -> Iterator[str]:
    yield from RecoveryAudit(world).list_violations()


class RecoveryAudit:
    """Reads the commits of one run in their order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._orders = {order.call.reference: order for order in world.sellers.orders.values()}
        # By job and attempt: the replica that began the attempt, and the one that recorded that its images are ready.
        self._beginners: dict[tuple[str, int], str] = {}
        self._ready_at: dict[tuple[str, int], str] = {}
        operations = world.operations
        self._has_one_clock = operations.clock_offsets == (0.0,) and not operations.clock_steps
        self._has_keys = not operations.account_changes

    def list_violations(self) -> Iterator[str]:
        jobs: dict[str, Job] = {}
        creators: dict[str, str] = {}
        for applied in self._world.state.history:
            job = applied.commit.job
            before = jobs.get(job.id)
            jobs[job.id] = job
            creators.setdefault(job.id, applied.replica_id)
            if before is not None:
                yield from self._check_commit(applied, before, creators[job.id])

    def _check_commit(self, applied: AppliedCommit, before: Job, creator: str) -> Iterator[str]:
        job = applied.commit.job
        for attempt in job.attempts[len(before.attempts) :]:
            self._beginners[job.id, attempt.number] = applied.replica_id
            if not before.is_confirmed and applied.replica_id != creator:
                yield f"unconfirmed job: {applied.replica_id} began attempt {attempt.number} of {job.id}"
        open_attempts = [attempt for attempt in before.attempts if attempt.state.is_open]
        for attempt in open_attempts:
            yield from self._check_change(applied, before, attempt, job.attempts[attempt.number - 1])
        if job.is_overdue and not before.is_overdue:
            yield from self._check_expired(applied, before, open_attempts)

    def _check_change(self, applied: AppliedCommit, before: Job, attempt: Attempt, after: Attempt) -> Iterator[str]:
        if after.images_ready and not attempt.images_ready:
            self._ready_at[before.id, attempt.number] = applied.replica_id
        if after.response_lost_at is not None and attempt.response_lost_at is None:
            yield from self._check_answer(applied, before, attempt)
        if attempt.images_ready and not after.state.is_open:
            yield from _check_ready_images(before, attempt, after)
        if not after.state.is_open and self._has_one_clock:
            yield from self._check_end(applied, before, attempt, after)

    def _check_end(self, applied: AppliedCommit, before: Job, attempt: Attempt, closed: Attempt) -> Iterator[str]:
        if closed.fault is FaultKind.IMAGES_EXPIRED:
            yield from self._check_lost_images(applied, before, attempt)
        elif applied.commit.fence is None or closed.fault is None or closed.orphaned_amount:
            # Images that came too late are booked as orphaned: their order was not abandoned.
            return
        elif VERDICTS[closed.fault].charge_status is ChargeStatus.UNKNOWN:
            if before.can_poll(attempt):
                yield from self._check_unanswered_order(applied, before, attempt)
            elif attempt.ticket is None and not attempt.images_ready:
                yield from self._check_lost_order(applied, before, attempt)

    def _check_expired(self, applied: AppliedCommit, before: Job, open_attempts: list[Attempt]) -> Iterator[str]:
        last_search_at = applied.commit.committed_at - MAX_DELAY_SECONDS
        for attempt in open_attempts:
            if before.can_poll(attempt):
                yield from self._check_last_poll(applied, attempt)
            elif attempt.response_lost_at and attempt.response_lost_at < last_search_at:
                yield from self._check_search(applied, before, attempt)

    # --- orders without a ticket

    def _check_answer(self, applied: AppliedCommit, before: Job, attempt: Attempt) -> Iterator[str]:
        """A replica that has received the answer to an order saves it, whatever other replicas save meanwhile."""
        reference = order_reference(before.id, attempt.number)
        if self._world.answered_at.get((applied.replica_id, reference), float("inf")) < applied.applied_at:
            yield f"answer dropped: {applied.replica_id} received that of {reference}, and then counted it as lost"

    def _check_lost_order(self, applied: AppliedCommit, before: Job, attempt: Attempt) -> Iterator[str]:
        name, now = _name(before, attempt), applied.commit.committed_at
        until, method = _compute_deadline(before, attempt, now), before.route_entry(attempt).recovery_method
        is_wanted = before.find_part(attempt.number) is not None and not before.is_cancel_requested
        can_be_found = method is not RecoveryMethod.NONE and (is_wanted or method is not RecoveryMethod.REPLAY)
        if now < until and can_be_found:
            yield f"abandoned too early: {name} was lost, and could be found until {until:.2f}, not {now:.2f}"
        if now < until and self._may_previous_worker_answer(applied, attempt):
            yield f"previous worker: {name} was abandoned by {applied.replica_id}, before the lease of another ended"
        reference, claim = order_reference(before.id, attempt.number), self._find_claim(applied)
        found_at = self._world.found_at.get((applied.replica_id, reference), float("inf"))
        if (claim.claimed_at if claim else 0.0) < found_at < applied.applied_at - SAVING_SECONDS:
            yield f"found and abandoned: {applied.replica_id} learned that {reference} exists, and counted it as lost"
        if not can_be_found:
            return
        yield from self._check_search(applied, before, attempt)
        if now > until + MAX_DELAY_SECONDS and self._is_undisturbed(applied):
            yield f"abandoned too late: {name} was lost, and could be found until {until:.2f}, not {now:.2f}"

    def _check_search(self, applied: AppliedCommit, before: Job, attempt: Attempt) -> Iterator[str]:
        reference, method = order_reference(before.id, attempt.number), before.route_entry(attempt).recovery_method
        is_wanted = before.find_part(attempt.number) is not None and not before.is_cancel_requested
        if not self._is_undisturbed(applied):
            return
        now, sellers, name = applied.commit.committed_at, self._world.sellers, _name(before, attempt)
        if method is RecoveryMethod.SEARCH:
            if not (searched_at := sellers.searches[reference]):
                yield f"not searched for: {name}"
            elif pause := find_search_pause([*searched_at, now]):
                yield f"too long without a search: {pause:.2f} s for {name}"
        if method is RecoveryMethod.REPLAY and is_wanted:
            _, *repeated_at = sellers.arrivals[reference]
            if not repeated_at:
                yield f"not sent again: {name}"
            elif pause := find_resend_pause([*repeated_at, now]):
                yield f"too long without a repetition: {pause:.2f} s for {name}"

    def _is_undisturbed(self, applied: AppliedCommit) -> bool:
        """Returns whether the worker that created the job did everything, without a disturbance."""
        return applied.commit.fence == FIRST_FENCE and not self._world.disturbance_count and self._has_keys

    def _may_previous_worker_answer(self, applied: AppliedCommit, attempt: Attempt) -> bool:
        """Returns whether the worker before this one may still have the answer to the order: it may be paused."""
        job_id, claim = applied.commit.job.id, self._find_first_claim(applied)
        return (
            claim is not None
            and attempt.number <= claim.attempt_count
            and self._beginners.get((job_id, attempt.number)) != applied.replica_id
            and applied.applied_at < claim.claimed_at + LEASE_SECONDS
        )

    def _find_claim(self, applied: AppliedCommit) -> Claim | None:
        """Finds the claim under which a decision was made. None if its replica created the job."""
        return self._world.state.claims.get((applied.commit.job.id, applied.commit.fence or 0))

    def _find_first_claim(self, applied: AppliedCommit) -> Claim | None:
        """Finds the claim since which no other replica had the lease. None if this replica created the job."""
        claims, job_id, fence = self._world.state.claims, applied.commit.job.id, applied.commit.fence or 0
        claim = claims.get((job_id, fence))
        while claim and (earlier := claims.get((job_id, fence - 1))) and earlier.replica_id == claim.replica_id:
            claim, fence = earlier, fence - 1
        return claim

    # --- orders with a ticket

    def _check_unanswered_order(self, applied: AppliedCommit, before: Job, attempt: Attempt) -> Iterator[str]:
        if applied.commit.committed_at >= _compute_deadline(before, attempt, applied.commit.committed_at):
            yield from self._check_last_poll(applied, attempt)
            return
        order = self._orders.get(order_reference(before.id, attempt.number))
        if order is not None and not _is_unanswered(order):
            yield f"abandoned too early: {_name(before, attempt)} has a ticket, and its seller answers polls"

    def _check_last_poll(self, applied: AppliedCommit, attempt: Attempt) -> Iterator[str]:
        """A worker that has claimed the job polls its orders before it abandons them, since time may have passed."""
        job_id, claim = applied.commit.job.id, self._find_claim(applied)
        order = self._orders.get(order_reference(job_id, attempt.number))
        if claim is None or order is None or not self._has_keys or attempt.number > claim.attempt_count:
            return
        if self._beginners.get((job_id, attempt.number)) == applied.replica_id:
            # It may still await the answer to this order.
            return
        if not any(asked_at >= claim.claimed_at for asked_at, _ in order.queries):
            yield f"not polled: {order.id} of {job_id} was abandoned by {applied.replica_id}, which had just claimed it"

    # --- images

    def _check_lost_images(self, applied: AppliedCommit, before: Job, attempt: Attempt) -> Iterator[str]:
        """Images are lost only if several downloads found them missing or invalid, or when they expire."""
        order = self._orders.get(order_reference(before.id, attempt.number))
        expires_at = attempt.started_at + max(
            before.route_entry(attempt).timeout_seconds, before.timing.image_ttl_seconds
        )
        if order is None or applied.commit.committed_at >= expires_at - TIMING.fetches.max_backoff_seconds:
            return
        are_inline = not attempt.image_urls and not before.can_poll(attempt) and attempt.images_ready
        if are_inline and self._ready_at.get((before.id, attempt.number)) != applied.replica_id:
            return
        failed_count = sum(fault in COUNTED_FAULTS for _, fault in order.downloads)
        if failed_count < TIMING.fetches.max_tries:
            yield f"images lost: {_name(before, attempt)} was given up after {failed_count} failed downloads"


def _check_ready_images(before: Job, attempt: Attempt, closed: Attempt) -> Iterator[str]:
    """Once images are known to exist, they are charged, and a fault that leaves this open does not end their order."""
    if closed.fault is not None and VERDICTS[closed.fault].charge_status is not ChargeStatus.CHARGED:
        yield f"ready images given up: {_name(before, attempt)} ended with {closed.fault}, although its images exist"


def list_unsaved_images(world: World) -> Iterator[str]:
    """Images of an order that cannot be polled are downloaded after their URLs are saved."""
    saved_at: dict[str, float] = {}
    for applied in world.state.history:
        job = applied.commit.job
        for attempt in job.attempts:
            if attempt.images_ready or not attempt.state.is_open or job.can_poll(attempt):
                saved_at.setdefault(order_reference(job.id, attempt.number), applied.applied_at)
    for order in world.sellers.orders.values():
        if order.downloads and order.downloads[0][0] < saved_at.get(order.call.reference, float("inf")):
            yield f"URLs not saved: images of {order.id} were downloaded, but a crash would have lost them"


def _compute_deadline(job: Job, attempt: Attempt, decided_at: float) -> float:
    """Computes until when an order without images is awaited. A callback that arrives just before the decision comes
    too late for it."""
    timeout_at = attempt.started_at + job.route_entry(attempt).timeout_seconds
    if attempt.response_lost_at is None:
        return timeout_at
    search_ends_at = attempt.response_lost_at + TIMING.jobs.reconcile_timeout_seconds
    is_known = attempt.callback_at is not None and attempt.callback_at < decided_at - CALLBACK_SECONDS
    is_repeated = job.route_entry(attempt).recovery_method is RecoveryMethod.REPLAY
    return max(timeout_at, search_ends_at) if is_known or is_repeated else search_ends_at


def _is_unanswered(order: SellerOrder) -> bool:
    """Returns whether the answers to polls justify to abandon the order before its deadline."""
    faults = [fault for _, fault in order.queries]
    missing_at = [asked_at for asked_at, fault in order.queries if fault is QueryFault.NOT_FOUND]
    return (
        faults.count(QueryFault.GARBLED) >= UNREADABLE_POLLS
        or QueryFault.REFUSED in faults
        or (len(missing_at) > 1 and missing_at[-1] - missing_at[0] >= TIMING.polls.missing_order_grace_seconds - 0.1)
    )


def _name(job: Job, attempt: Attempt) -> str:
    return f"attempt {attempt.number} of {job.id}"
