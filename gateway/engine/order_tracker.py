"""Tracks submitted orders: polls those with a ticket, searches for those without, and hands finished orders to the
result fetcher."""

import asyncio
import contextlib
from collections import defaultdict
from itertools import count
from math import inf

from gateway.catalogue import Offer
from gateway.engine.commit_events import identify_offer
from gateway.engine.finished_order_cost import compute_cost
from gateway.engine.job_context import JobContext
from gateway.engine.job_documents import decode_call
from gateway.engine.order_observation import OrderObservation
from gateway.engine.poll_schedule import MAX_UNANSWERED_POLLS, PollSchedule, UnansweredPolls, get_retry_after
from gateway.engine.result_fetcher import ResultFetcher
from gateway.engine.seller_queries import poll_order, resend_order, search_order, verify_ticket
from gateway.engine.seller_response_builder import describe_fault
from gateway.jobs.document_names import call_document_name
from gateway.jobs.job import Attempt, Job, order_reference
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    CallbackReceived,
    JobUpdate,
    OrderFailed,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.next_actions import (
    AttemptAction,
    AwaitCallback,
    AwaitPreviousWorker,
    FetchImages,
    MarkResponseLost,
    PollOrder,
    ResendOrder,
    SearchOrder,
    attempt_deadline,
    derive_actions,
)
from providers.faults import FaultKind, PollPolicy
from providers.order_status import Accepted, Failed, InProgress, NoAnswer, Progress, Ready, SearchResult
from providers.orders import ImageUrl


class OrderTracker:
    """Tracks the orders of one job. `pending_polls`: attempts to poll once before they may be abandoned as overdue."""

    def __init__(self, job_context: JobContext) -> None:
        self._job_context = job_context
        self._context = job_context.engine_context
        self._wake_events: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        # The time at which a callback last ended a pause early.
        self._woken_at: defaultdict[int, float] = defaultdict(lambda: -inf)
        self._callback_tickets: dict[int, str] = {}
        self._observations: dict[int, OrderObservation] = {}
        self.result_fetcher = ResultFetcher(job_context)
        self.pending_polls: set[int] = set()

    def on_callback(self, attempt_number: int, ticket: str | None) -> None:
        """Polls the order at once. A ticket that the callback names is kept until it is verified."""
        attempt = self._job_context.job.get_attempt(attempt_number)
        if attempt is None or not attempt.state.is_open:
            return
        if attempt.ticket is None and ticket is not None:
            self._callback_tickets[attempt_number] = ticket
        self._get_observation(attempt).record_callback(self._context.wall_clock())
        self.wake(attempt_number)

    def wake(self, attempt_number: int) -> None:
        self._wake_events[attempt_number].set()

    async def run_action(self, action: AttemptAction) -> None:
        if isinstance(action, MarkResponseLost):
            await self._job_context.mailbox.post(ResponseLost(attempt=action.attempt))
        elif isinstance(action, AwaitPreviousWorker):
            await self._sleep_until_woken(action.attempt, action.until - self._context.wall_clock())
        else:
            await self._run_seller_action(action)

    async def _run_seller_action(self, action: AttemptAction) -> None:
        attempt = self._job_context.get_attempt(action.attempt)
        offer = self._find_offer(attempt)
        if offer is None:
            # A replica with this seller in its configuration can continue.
            await asyncio.sleep(self._job_context.job.timing.search_interval_seconds)
        elif isinstance(action, PollOrder):
            await self._poll_until_final(attempt, offer, action)
        elif isinstance(action, SearchOrder):
            await self._search_order(attempt, offer, action)
        elif isinstance(action, ResendOrder):
            await self._resend_order(attempt, offer, action)
        elif isinstance(action, AwaitCallback):
            await self._wait_for_callback(attempt, offer, action)
        elif isinstance(action, FetchImages):
            ready = Ready(images=tuple(ImageUrl(link) for link in action.image_urls), cost=attempt.cost)
            await self.result_fetcher.fetch_and_store(action.attempt, ready, offer)

    async def track(self, attempt_number: int) -> None:
        """Runs the next actions of the attempt in the same task, which still holds the order slot of the account."""
        while action := self._get_next_action(attempt_number):
            if not isinstance(action, PollOrder | SearchOrder | ResendOrder | AwaitCallback | FetchImages):
                return
            await self.run_action(action)

    def _find_offer(self, attempt: Attempt) -> Offer | None:
        """Returns the attempt's offer as configured now; None if this replica has no API key for it."""
        offer = self._context.find_offer(self._job_context.get_route_entry(attempt), self._job_context.job.model)
        return offer if offer and offer.seller.account.api_key else None

    def _get_next_action(self, attempt_number: int) -> AttemptAction | None:
        actions = derive_actions(self._job_context.job, self._context.wall_clock())
        return next(
            (action for action in actions if isinstance(action, AttemptAction) and action.attempt == attempt_number),
            None,
        )

    # --- orders with a ticket

    def schedule_open_orders(self) -> None:
        """Marks all open orders for one poll before any is abandoned, since the job may have been without a worker for
        a while."""
        job = self._job_context.job
        self.pending_polls = {
            attempt.number for attempt in job.attempts if attempt.state.is_open and job.can_poll(attempt)
        }
        for attempt_number in self.pending_polls:
            self.wake(attempt_number)

    def schedule_found_orders(self, before: Job) -> None:
        """Marks orders whose tickets are new since `before`, and whose time is over by now, for one poll."""
        job, now = self._job_context.job, self._context.wall_clock()
        self.pending_polls |= {
            attempt.number
            for attempt, former in zip(job.attempts, before.attempts, strict=False)
            if attempt.state.is_open
            and job.can_poll(attempt)
            and not before.can_poll(former)
            and now >= min(job.deadline, attempt_deadline(job, attempt))
        }

    async def poll_once(self, attempt_number: int) -> None:
        attempt = self._job_context.get_attempt(attempt_number)
        offer = self._find_offer(attempt)
        try:
            if offer is not None and attempt.state.is_open:
                await self._handle_final(attempt, offer, await self._poll_until_answered(attempt, offer))
        finally:
            self._mark_polled(attempt_number)

    def _mark_polled(self, attempt_number: int) -> None:
        self.pending_polls.discard(attempt_number)
        if not self.pending_polls:
            self._job_context.progress_event.set()

    async def _poll_until_answered(self, attempt: Attempt, offer: Offer) -> Progress:
        """Polls until the seller answers, at most MAX_UNANSWERED_POLLS times. Used for a last poll."""
        for _ in range(MAX_UNANSWERED_POLLS - 1):
            progress = await self._poll_order(attempt, offer)
            if not isinstance(progress, NoAnswer):
                return progress
            await self._sleep_until_woken(attempt.number, self._context.timing.orders.min_resend_backoff_seconds)
        return await self._poll_order(attempt, offer)

    async def _poll_until_final(self, attempt: Attempt, offer: Offer, action: PollOrder) -> None:
        """Polls until the order is final or `action.until` has passed."""
        cell = self._job_context.get_route_entry(attempt).cell
        schedule = PollSchedule(
            offer.expected_latency[cell.quality].p50,
            self._context.wall_clock() - attempt.started_at,
            self._context.timing.polls,
        )
        unanswered_polls, retry_after = UnansweredPolls(self._context.timing.polls), None
        while True:
            remaining_seconds = action.until - self._context.wall_clock()
            await self._sleep_until_woken(
                attempt.number, max(0.0, min(schedule.next_delay(retry_after), remaining_seconds))
            )
            offer, asked_at = self._find_offer(attempt) or offer, self._context.wall_clock()
            progress = await self._poll_order(attempt, offer)
            is_final = await self._handle_final(attempt, offer, progress)
            self._mark_polled(attempt.number)
            if is_final:
                return
            retry_after = get_retry_after(progress)
            fault = unanswered_polls.record_poll(progress, asked_at)
            if fault and await self._abandon_unanswered(attempt, offer, progress, fault):
                return
            if self._context.wall_clock() >= action.until:
                return

    async def _abandon_unanswered(self, attempt: Attempt, offer: Offer, progress: Progress, fault: FaultKind) -> bool:
        response = (
            await describe_fault(self._job_context, progress.fault, offer.seller.account)
            if isinstance(progress, NoAnswer)
            else None
        )
        update = AttemptAbandoned(
            fence=self._job_context.fence, attempt=attempt.number, fault=fault, seller_response=response
        )
        return await self._post_update(update)

    async def _poll_order(self, attempt: Attempt, offer: Offer) -> Progress:
        sent_at, observation = self._context.wall_clock(), self._get_observation(attempt)
        progress = await poll_order(self._context, self._job_context.job, attempt, offer)
        if observation.record_poll(progress, sent_at):
            job, now = self._job_context.job, self._context.wall_clock()
            offer_fields = identify_offer(job, job.route_entry(attempt), now)
            self._context.emit(observation.make_event(offer_fields, attempt.number, progress))
        return progress

    def _get_observation(self, attempt: Attempt) -> OrderObservation:
        return self._observations.setdefault(attempt.number, OrderObservation(attempt.started_at))

    async def _handle_final(self, attempt: Attempt, offer: Offer, progress: Progress) -> bool:
        """Handles a final response. Returns whether the attempt ended."""
        if isinstance(progress, Ready):
            return await self.result_fetcher.fetch_and_store(attempt.number, progress, offer)
        if not isinstance(progress, Failed):
            return False
        update = OrderFailed(
            attempt=attempt.number,
            fault=progress.fault.kind,
            cost=compute_cost(progress, offer),
            seller_response=await describe_fault(self._job_context, progress.fault, offer.seller.account),
        )
        # If the images are known to exist, a failure does not count and polling continues.
        return await self._post_update(update) or not self._job_context.get_attempt(attempt.number).state.is_open

    # --- orders whose response was lost

    async def _search_order(self, attempt: Attempt, offer: Offer, action: SearchOrder) -> None:
        reference = order_reference(self._job_context.job.id, attempt.number)
        search_interval = self._job_context.job.timing.search_interval_seconds
        for search_number in count():
            offer = self._find_offer(attempt) or offer
            if await self._resolve_ticket(attempt, offer):
                return
            progress = await search_order(self._context, self._job_context.job, attempt, offer, search_number)
            orders = progress.orders if isinstance(progress, SearchResult) else ()
            ticket = next((order.id for order in orders if order.reference == reference and order.id), None)
            if ticket is not None:
                return await self._record_ticket(attempt, ticket)
            await self._sleep_until_woken(
                attempt.number, min(search_interval, max(0.0, action.until - self._context.wall_clock()))
            )
            if self._context.wall_clock() >= action.until:
                return

    async def _wait_for_callback(self, attempt: Attempt, offer: Offer, action: AwaitCallback) -> None:
        search_interval = self._job_context.job.timing.search_interval_seconds
        while not await self._resolve_ticket(attempt, offer) and self._context.wall_clock() < action.until:
            await self._sleep_until_woken(
                attempt.number, min(search_interval, max(0.05, action.until - self._context.wall_clock()))
            )
            offer = self._find_offer(attempt) or offer

    async def _resolve_ticket(self, attempt: Attempt, offer: Offer) -> bool:
        """Returns whether the attempt has a verified ticket. A ticket from a callback counts after the seller confirmed
        it."""
        attempt_number = attempt.number
        if (ticket := self._callback_tickets.get(attempt_number)) is not None:
            await self._post_update(CallbackReceived(attempt=attempt_number))
            is_verified = await verify_ticket(self._context, self._job_context.job, attempt, offer, ticket)
            if is_verified is not None:
                self._callback_tickets.pop(attempt_number, None)
            if is_verified:
                await self._record_ticket(attempt, ticket)
        if self._job_context.get_attempt(attempt_number).ticket is None:
            return False
        # The callback announced a change of the order.
        self.wake(attempt_number)
        return True

    async def _resend_order(self, attempt: Attempt, offer: Offer, action: ResendOrder) -> None:
        """Sends the saved order again, with its idempotency key, as long as its images are wanted.

        A refusal of the resent order says nothing about the first one.
        """
        document_name = call_document_name(attempt.number)
        saved_call = (await self._context.store.load_documents(self._job_context.job.id, document_name)).get(
            document_name
        )
        timing = self._context.timing.orders
        backoff = timing.min_resend_backoff_seconds
        while saved_call is not None and isinstance(self._get_next_action(attempt.number), ResendOrder):
            offer = self._find_offer(attempt) or offer
            job, call = self._job_context.job, decode_call(saved_call)
            progress = await resend_order(self._context, job, attempt, offer, call)
            if isinstance(progress, Accepted | InProgress) and progress.id:
                return await self._record_ticket(attempt, progress.id)
            is_conclusive = (
                not isinstance(progress, Failed) or progress.fault.verdict.poll_policy is PollPolicy.ACCEPT_AS_FINAL
            )
            if is_conclusive and await self._handle_final(attempt, offer, progress):
                return
            await self._sleep_until_woken(
                attempt.number, min(backoff, max(0.0, action.until - self._context.wall_clock()))
            )
            backoff = min(backoff * 2, timing.max_resend_backoff_seconds)
        if saved_call is None:
            await self._post_update(
                AttemptAbandoned(
                    fence=self._job_context.fence, attempt=attempt.number, fault=FaultKind.RESPONSE_LOST, is_lost=True
                )
            )

    async def _record_ticket(self, attempt: Attempt, ticket: str) -> None:
        await self._post_update(TicketReceived(attempt=attempt.number, ticket=ticket))

    # --- helpers

    async def _post_update(self, update: JobUpdate) -> bool:
        """Posts an update to the worker. Returns whether it changed the job."""
        return await self._job_context.mailbox.post(update)

    async def _sleep_until_woken(self, attempt_number: int, timeout_seconds: float) -> None:
        """Sleeps until the timeout or a callback. Callbacks wake it at most once a second: one poll covers several
        callbacks."""
        wake_event, monotonic = self._wake_events[attempt_number], self._context.monotonic
        due_at, min_interval = monotonic() + timeout_seconds, self._context.timing.polls.min_wake_interval_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await wake_event.wait()
                await asyncio.sleep(self._woken_at[attempt_number] + min_interval - monotonic())
                self._woken_at[attempt_number] = now = monotonic()
                if observation := self._observations.get(attempt_number):
                    observation.record_wakeup(due_at - now)
        # The next poll covers all callbacks up to here.
        wake_event.clear()
