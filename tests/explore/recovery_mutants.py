"""Mutants of recovery: lost orders, polls, downloads, and leases that another replica had meanwhile."""

from typing import Any

from msgspec.structs import replace

from gateway.engine import job_worker, order_tracker, poll_schedule
from gateway.engine.job_worker import JobWorker
from gateway.engine.order_tracker import OrderTracker
from gateway.engine.poll_schedule import PollSchedule, UnansweredPolls
from gateway.engine.result_fetcher import ResultFetcher
from gateway.jobs import job_update_types, next_actions, transitions
from gateway.jobs.job import Attempt, Job, RecoveryMethod, order_reference
from gateway.jobs.job_update_types import Decision
from gateway.jobs.next_actions import AbandonAttempt, AbandonLostImages, AwaitCallback
from gateway.store.base import Applied, StoreOutcomeUnknown, VersionConflict
from providers.faults import ChargeStatus, FaultKind
from providers.order_status import SearchResult
from tests.explore.mutant import MAX_RUNS, AttributePatch, Mutant


def _want_every_image(recovery_action: Any) -> Any:
    return lambda attempt, method, until, is_wanted: recovery_action(attempt, method, until, True)


def _trust_each_found_order(search_order: Any) -> Any:
    """The reference of a found order is not compared with that of the lost one."""

    async def search(context: Any, job: Job, attempt: Attempt, *arguments: Any) -> Any:
        result = await search_order(context, job, attempt, *arguments)
        if not isinstance(result, SearchResult):
            return result
        reference = order_reference(job.id, attempt.number)
        return replace(result, orders=tuple(replace(order, reference=reference) for order in result.orders))

    return search


def _trust_fault_of_poll(record_poll: Any) -> Any:
    def record(self: UnansweredPolls, progress: Any, asked_at: float) -> FaultKind | None:
        fault = record_poll(self, progress, asked_at)
        return progress.fault.kind if fault and progress.fault.charge_status is ChargeStatus.NOT_CHARGED else fault

    return record


def _abandon_with_each_fault(apply: Any) -> Any:
    """An attempt can be abandoned as one that was not charged."""

    def abandon(job: Job, decision: Any, now: float) -> Any:
        attempt = job.get_attempt(decision.attempt)
        if attempt is None or not attempt.state.is_open or attempt.images_ready:
            return apply(job, decision, now)
        return transitions._close_without_images(job, attempt, decision.fault, None, now)

    return abandon


def _capture_excess(apply: Any) -> Any:
    """The team pays what its images cost, even if that is more than was held for them."""

    def store(job: Job, fact: Any, now: float) -> Any:
        stored = apply(job, fact, now)
        attempt = stored.get_attempt(fact.attempt) if isinstance(stored, Job) else None
        if attempt is None or not (excess := stored.get_excess(attempt.number)):
            return stored
        excesses = tuple(each for each in stored.excesses if each.attempt != attempt.number)
        paying = replace(attempt, captured_amount=attempt.captured_amount + excess)
        return transitions.replace_attempt(replace(stored, excesses=excesses), paying)

    return store


def _expire_ready_images(apply: Any) -> Any:
    """The deadline also ends the wait for images that are ready."""

    def expire(job: Job, decision: Any, now: float) -> Any:
        attempts = tuple(replace(attempt, images_ready=False) for attempt in job.attempts)
        expired = apply(replace(job, attempts=attempts), decision, now)
        return replace(expired, attempts=job.attempts) if isinstance(expired, Job) else expired

    return expire


def _never(_: Any) -> Any:
    return lambda *_: False


def _renew_fences(apply_messages: Any) -> Any:
    """Decisions count as if they were made under the present lease."""

    def apply(self: JobWorker, messages: Any, now: float) -> Any:
        renewed = [
            replace(message, update=replace(message.update, fence=self.fence))
            if isinstance(message.update, Decision)
            else message
            for message in messages
        ]
        return apply_messages(self, renewed, now)

    return apply


def _await_callback(method: RecoveryMethod) -> Any:
    """Orders that are to be found by this method are only awaited."""

    def make(recovery_action: Any) -> Any:
        def await_callback(attempt: Attempt, recovery_method: Any, until: float, is_wanted: bool) -> Any:
            if recovery_method is method and is_wanted:
                return AwaitCallback(attempt=attempt.number, until=until)
            return recovery_action(attempt, recovery_method, until, is_wanted)

        return await_callback

    return make


def _give_up_at_once(recovery_action: Any) -> Any:
    return lambda attempt, *_: AbandonAttempt(attempt=attempt.number, fault=FaultKind.RESPONSE_LOST)


def _overlook_found_orders(search_order: Any) -> Any:
    async def search(*arguments: Any) -> Any:
        result = await search_order(*arguments)
        return replace(result, orders=()) if isinstance(result, SearchResult) else result

    return search


def _poll_without_pause(_: Any) -> Any:
    return lambda *_: 0.0


def _sleep_until_the_end(sleep: Any) -> Any:
    """A lost order is not searched for again before its search ends."""

    async def sleep_longer(self: OrderTracker, attempt_number: int, timeout_seconds: float) -> None:
        is_lost = self._job_context.get_attempt(attempt_number).response_lost_at is not None
        await sleep(self, attempt_number, 1_000.0 if is_lost else timeout_seconds)

    return sleep_longer


def _search_until_timeout(attempt_deadline: Any) -> Any:
    """A lost order is awaited as long as one with a ticket."""
    return lambda job, attempt: attempt_deadline(job, replace(attempt, response_lost_at=None))


def _search_too_briefly(attempt_deadline: Any) -> Any:
    def compute_deadline(job: Job, attempt: Attempt) -> float:
        until = attempt_deadline(job, attempt)
        return until if attempt.response_lost_at is None else attempt.response_lost_at + 1.0

    return compute_deadline


def _set_first_poll_count(_: int) -> int:
    return 1


def _skip_grace_period(initialize: Any) -> Any:
    def initialize_without_grace(self: UnansweredPolls, timing: Any) -> None:
        initialize(self, timing)
        self._grace_seconds = 0.0

    return initialize_without_grace


def _count_as_created_here(initialize: Any) -> Any:
    """Each worker buys jobs whose clients may have received an error."""

    def initialize_worker(self: JobWorker, *args: Any) -> None:
        initialize(self, *args)
        self.is_created_here = True

    return initialize_worker


def _ignore_pending_polls(is_premature: Any) -> Any:
    return lambda self, action: isinstance(action, AbandonLostImages) and is_premature(self, action)


def _ignore_fetches(is_premature: Any) -> Any:
    return lambda self, action: not isinstance(action, AbandonLostImages) and is_premature(self, action)


def _take_unknown_outcome_for_applied(retry_until_available: Any) -> Any:
    async def retry(self: JobWorker, operation: Any) -> Any:
        async def perform() -> Any:
            try:
                return await operation()
            except StoreOutcomeUnknown:
                return Applied()

        return await retry_until_available(self, perform)

    return retry


def _drop_refused_messages(on_commit_refused: Any) -> Any:
    """Updates that conflict with a change by another replica are not applied again."""

    async def drop(self: JobWorker, commit: Any, outcome: Any, messages: Any) -> Any:
        remaining = await on_commit_refused(self, commit, outcome, messages)
        if not isinstance(outcome, VersionConflict):
            return remaining
        job_worker._resolve_messages(remaining, [False] * len(remaining))
        return []

    return drop


def _forget_rejection(apply: Any) -> Any:
    """A rejection counts although another sending of the order was accepted."""
    return lambda job, fact, now: apply(job, replace(fact, is_rejection=False), now)


def _forget_ready_images(apply: Any) -> Any:
    """An order can end without its images although they exist."""

    def end_order(job: Job, update: Any, now: float) -> Any:
        attempt = job.get_attempt(update.attempt)
        if attempt is None or not attempt.images_ready:
            return apply(job, update, now)
        return apply(transitions.replace_attempt(job, replace(attempt, images_ready=False)), update, now)

    return end_order


_SEARCH_DEADLINES = (*((next_actions, "attempt_deadline"), (order_tracker, "attempt_deadline")),)

RECOVERY_MUTANTS = (
    Mutant(
        "lost order of a cancelled job sent again",
        (AttributePatch(next_actions, "_recovery_action", _want_every_image),),
    ),
    Mutant(
        "fault of a poll trusted",
        (
            AttributePatch(UnansweredPolls, "record_poll", _trust_fault_of_poll),
            AttributePatch(transitions._TRANSITIONS, job_update_types.AttemptAbandoned, _abandon_with_each_fault),
        ),
    ),
    Mutant(
        "team pays more than was held",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.ImagesStored, _capture_excess),),
    ),
    Mutant(
        "ready images dropped at the deadline",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.JobExpired, _expire_ready_images),),
    ),
    Mutant("images fetched only once", (AttributePatch(ResultFetcher, "_should_retry_fetch", _never),)),
    Mutant("URLs of images not saved", (AttributePatch(ResultFetcher, "_is_early_record_needed", _never),)),
    Mutant(
        "decision of a lost lease applied",
        (AttributePatch(JobWorker, "_apply_messages", _renew_fences),),
        # In one run of 1,000 an order is rejected that another replica has sent again meanwhile.
        max_runs=2 * MAX_RUNS,
    ),
    Mutant(
        "lost order not searched",
        (AttributePatch(next_actions, "_recovery_action", _await_callback(RecoveryMethod.SEARCH)),),
    ),
    Mutant(
        "lost order not sent again",
        (AttributePatch(next_actions, "_recovery_action", _await_callback(RecoveryMethod.REPLAY)),),
    ),
    Mutant("first found order taken", (AttributePatch(order_tracker, "search_order", _trust_each_found_order),)),
    Mutant("lost order abandoned at once", (AttributePatch(next_actions, "_recovery_action", _give_up_at_once),)),
    Mutant(
        "lost order searched for too long",
        tuple(AttributePatch(*place, _search_until_timeout) for place in _SEARCH_DEADLINES),
    ),
    Mutant(
        "lost order searched for too briefly",
        tuple(AttributePatch(*place, _search_too_briefly) for place in _SEARCH_DEADLINES),
    ),
    Mutant("found order overlooked", (AttributePatch(order_tracker, "search_order", _overlook_found_orders),)),
    Mutant("polls without a pause", (AttributePatch(PollSchedule, "next_delay", _poll_without_pause),)),
    Mutant(
        "lost order searched for once",
        (AttributePatch(OrderTracker, "_sleep_until_woken", _sleep_until_the_end),),
    ),
    Mutant(
        "unanswered poll abandons an order",
        (AttributePatch(poll_schedule, "MAX_UNANSWERED_POLLS", _set_first_poll_count),),
    ),
    Mutant("missing order abandoned at once", (AttributePatch(UnansweredPolls, "__init__", _skip_grace_period),)),
    Mutant("unconfirmed job bought by a rescuer", (AttributePatch(JobWorker, "__init__", _count_as_created_here),)),
    Mutant("previous worker not awaited", (AttributePatch(next_actions, "_is_premature", _never),)),
    Mutant(
        "overdue order not polled by a new worker", (AttributePatch(JobWorker, "_is_premature", _ignore_pending_polls),)
    ),
    Mutant("images abandoned while they are fetched", (AttributePatch(JobWorker, "_is_premature", _ignore_fetches),)),
    Mutant(
        "commit of unknown outcome taken for applied",
        (AttributePatch(JobWorker, "_retry_until_available", _take_unknown_outcome_for_applied),),
    ),
    Mutant(
        "accepted order closed by a rejection",
        (
            AttributePatch(transitions, "_apply_order_failed", _forget_rejection),
            AttributePatch(transitions._TRANSITIONS, job_update_types.OrderFailed, _forget_rejection),
        ),
        # In one run of 400 a seller rejects an order whose ticket another replica has saved.
        max_runs=2 * MAX_RUNS,
    ),
    Mutant(
        "ready images closed by a failure",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.OrderFailed, _forget_ready_images),),
    ),
    Mutant(
        "ready images abandoned",
        (AttributePatch(transitions._TRANSITIONS, job_update_types.AttemptAbandoned, _forget_ready_images),),
    ),
    Mutant(
        "answer dropped at a version conflict",
        (AttributePatch(JobWorker, "_on_commit_refused", _drop_refused_messages),),
        # In one run of 400 another replica saves a change while the answer to an order is saved.
        max_runs=2 * MAX_RUNS,
    ),
)
