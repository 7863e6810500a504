"""Handles sellers' callbacks: verifies the URL and the signature, then has the order polled.

A callback is only a hint: only the seller's response to the poll changes the job.
"""

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

from gateway.catalogue import Offer
from gateway.engine.engine import Engine
from gateway.engine.seen_callbacks import SeenCallbacks, compute_digest
from gateway.engine.seller_queries import can_identify_orders, verify_ticket
from gateway.events import CallbackHandled, CallbackOutcome
from gateway.jobs.job import Attempt, Job
from gateway.jobs.job_update_types import CallbackReceived, TicketReceived

# The number of attempts for which the time of the last ticket check is kept.
MAX_TICKET_CHECKS = 10_000


class RetryLater(Exception):
    """The callback cannot be checked or saved at the moment. The seller should deliver it again."""


class CallbackHandler:
    """Accepts callbacks that have an attempt's own URL and a valid signature of its seller."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context = engine.context
        self._seen_callbacks = SeenCallbacks()
        # The time of the last ticket check, by attempt.
        self._ticket_checked_at: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def handle(self, url_parts: tuple[str, str, int, str], headers: Mapping[str, str], body: bytes) -> bool:
        """Returns False for an invalid URL or signature. Late and repeated callbacks, and those about another order,
        have no effect, and need not be sent again.

        Raises RetryLater if the callback cannot be checked or saved at the moment.
        """
        adapter, job_id, attempt_number, signature = url_parts
        is_known_url = self._context.callback_urls is not None and self._context.callback_urls.verify(
            adapter, job_id, attempt_number, signature
        )
        outcome = CallbackOutcome.DEFERRED
        try:
            outcome = (
                await self._check_and_apply(job_id, attempt_number, headers, body)
                if is_known_url
                else CallbackOutcome.UNKNOWN
            )
        finally:
            known_job_id = job_id if is_known_url else None
            self._context.emit(
                CallbackHandled(adapter=adapter if is_known_url else "unknown", outcome=outcome, job=known_job_id)
            )
        return outcome not in (CallbackOutcome.UNKNOWN, CallbackOutcome.FORGED)

    async def _check_and_apply(
        self, job_id: str, attempt_number: int, headers: Mapping[str, str], body: bytes
    ) -> CallbackOutcome:
        job = await self._engine.get_job(job_id)
        attempt = job.get_attempt(attempt_number) if job else None
        if job is None or attempt is None:
            return CallbackOutcome.LATE
        offer = self._find_offer(job, attempt)
        callback_spec = offer.seller.adapter.callback if offer else None
        if offer is None or callback_spec is None:
            return CallbackOutcome.LATE
        secrets = [secret.reveal() for secret in offer.seller.account.callback_secrets]
        if not secrets:
            # Without a secret the sender cannot be verified. The order is polled only on its schedule.
            return CallbackOutcome.UNCHECKED
        if not callback_spec.verify(headers, body, secrets, self._context.wall_clock()):
            return CallbackOutcome.FORGED
        ticket = callback_spec.parse_order_id(body)
        if attempt.ticket is not None and ticket not in (None, attempt.ticket):
            return CallbackOutcome.OTHER_ORDER
        apply_once = partial(self._apply_callback, job, attempt, offer, ticket)
        is_applied = partial(self._is_applied, job, attempt)
        is_new = await self._seen_callbacks.process_once(
            (job_id, attempt_number), compute_digest(callback_spec, headers, body), apply_once, is_applied
        )
        return CallbackOutcome.ACCEPTED if is_new else CallbackOutcome.DUPLICATE

    async def _apply_callback(self, job: Job, attempt: Attempt, offer: Offer, ticket: str | None) -> int | None:
        """Passes the callback to the job's worker in this process, or else saves it.

        Returns the fence of that worker; None if the callback was saved in the store.
        """
        is_ticket_needed = ticket is not None and _is_missing_ticket(attempt)
        fence = self._engine.on_callback(job.id, attempt.number, ticket)
        if fence is not None and (not is_ticket_needed or await self._engine.has_lease(job.id, fence)):
            return fence
        saved_job = await self._engine.save_fact(job.id, CallbackReceived(attempt=attempt.number))
        saved_attempt = saved_job.get_attempt(attempt.number) if saved_job else None
        if saved_job and saved_attempt and ticket is not None and _is_missing_ticket(saved_attempt):
            await self._record_ticket(saved_job, saved_attempt, offer, ticket)
        return None

    async def _is_applied(self, job: Job, attempt: Attempt, fence: int | None) -> bool:
        """Returns whether the callback is applied already, so that a redelivery adds nothing.

        A ticket that the worker did not save is lost with the lease.
        """
        return fence is None or not _is_missing_ticket(attempt) or await self._engine.has_lease(job.id, fence)

    def _find_offer(self, job: Job, attempt: Attempt) -> Offer | None:
        """Returns the attempt's offer. Raises RetryLater if only another replica can check the callback."""
        offer = self._context.find_offer(job.route_entry(attempt), job.model)
        if offer is None and attempt.state.is_open:
            raise RetryLater
        return offer

    async def _record_ticket(self, job: Job, attempt: Attempt, offer: Offer, ticket: str) -> None:
        """Records the ticket that the callback names, after the seller confirmed it.

        If the response to the order was lost, only the callback names the order. If the seller's status does not
        contain the reference of the attempt, the callback counts only after the response is known to be lost.
        """
        if attempt.response_lost_at is None and not can_identify_orders(offer):
            raise RetryLater
        self._reject_frequent_ticket_checks(job.id, attempt.number)
        is_verified = await verify_ticket(self._context, job, attempt, offer, ticket)
        if is_verified is None:
            raise RetryLater
        if is_verified:
            await self._engine.save_fact(job.id, TicketReceived(attempt=attempt.number, ticket=ticket))

    def _reject_frequent_ticket_checks(self, job_id: str, attempt_number: int) -> None:
        """Raises RetryLater if the last ticket check of this attempt was less than a second ago."""
        now, key = self._context.monotonic(), (job_id, attempt_number)
        min_interval = self._context.timing.polls.min_ticket_check_interval_seconds
        if now - self._ticket_checked_at.get(key, -min_interval) < min_interval:
            raise RetryLater
        self._ticket_checked_at[key] = now
        self._ticket_checked_at.move_to_end(key)
        if len(self._ticket_checked_at) > MAX_TICKET_CHECKS:
            self._ticket_checked_at.popitem(last=False)


def _is_missing_ticket(attempt: Attempt) -> bool:
    return attempt.state.is_open and attempt.ticket is None
