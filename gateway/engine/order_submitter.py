"""Submits orders for waiting images, with failover along the route.

For each order it picks a route entry, records the attempt, sends the order, and records the response.
"""

import asyncio
from collections.abc import Hashable
from functools import partial

from msgspec import Struct

from gateway.catalogue import Offer
from gateway.engine.commit_events import OfferFields, identify_offer
from gateway.engine.finished_order_cost import compute_cost
from gateway.engine.input_uploader import InputUploader, OrderNotSent, UploadedInputs
from gateway.engine.job_context import JobContext
from gateway.engine.job_documents import OrderDocuments, OrderTerms, SavedRequest, encode_call
from gateway.engine.offer_resolver import make_health_key
from gateway.engine.order_tracker import OrderTracker
from gateway.engine.seller_call_events import SellerCall, observe_seller_call
from gateway.engine.seller_queries import get_max_response_bytes
from gateway.engine.seller_response_builder import describe_fault
from gateway.engine.unsent_order_fault import get_unsent_order_fault
from gateway.events import OfferSkipped, OrderSlotGranted, SellerCallStep
from gateway.health.concurrency_limiter import Priority, SlotTimeout
from gateway.jobs.document_names import call_document_name
from gateway.jobs.job import Part, RecoveryMethod, RouteEntry, order_reference
from gateway.jobs.job_update_types import (
    AttemptStarted,
    OrderFailed,
    OrderRejected,
    PartAbandoned,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.next_actions import SubmitOrder, attempt_deadline
from gateway.routing.signals import CellSignals
from gateway.upstream.response_parser_thread import parse_response
from gateway.upstream.seller_client import CallOptions
from providers.adapter import Call
from providers.faults import VERDICTS, ChargeStatus, Fault, FaultKind, PartConsequence
from providers.order_status import Accepted, Failed, InProgress, NoAnswer, Progress, Ready
from providers.orders import Feature, Order, UnsupportedOrder


class OrderSubmitter:
    """Submits the orders of one job.

    `in_flight`: keys of the tasks whose orders were sent; only this process can receive their responses.
    """

    def __init__(self, job_context: JobContext, tracker: OrderTracker) -> None:
        self._job_context = job_context
        self._tracker = tracker
        self._context = job_context.engine_context
        self._uploader = InputUploader(job_context.engine_context, job_context.job)
        # By image: the key of the task that orders it, and of the last task that failed to order it.
        self._assigned: dict[int, Hashable] = {}
        self._failed_keys: dict[int, Hashable] = {}
        # The numbers of earlier tries whose orders have been counted already, as first orders or as retries.
        self._counted_tries: set[int] = set()
        self._attempt_lock = asyncio.Lock()
        self.in_flight: set[Hashable] = set()

    def submit(self, images: tuple[int, ...], action: SubmitOrder) -> None:
        """Starts one task that orders all of these images that no other task handles."""
        if unassigned := tuple([image for image in images if not self._is_handled(image)]):
            self._start_submission(unassigned, action)

    def _is_handled(self, image: int) -> bool:
        """Returns whether a task orders this image, or has failed to order it and is backing off.

        A task that backs off keeps its images: otherwise they would be joined with others and split again until its
        backoff ends.
        """
        failed_key = self._failed_keys.get(image)
        return image in self._assigned or (failed_key is not None and self._job_context.is_backing_off(failed_key))

    def _start_submission(self, images: tuple[int, ...], action: SubmitOrder) -> None:
        key = ("submit", images)
        if self._job_context.start_task(key, partial(self._run_submission, key, images, action)):
            self._assigned |= dict.fromkeys(images, key)

    async def _run_submission(self, key: Hashable, images: tuple[int, ...], action: SubmitOrder) -> None:
        try:
            await self._submit_with_failover(key, images, action)
        except Exception:
            self._failed_keys |= dict.fromkeys(images, key)
            raise
        finally:
            self._assigned = {image: task_key for image, task_key in self._assigned.items() if task_key != key}
            self.in_flight.discard(key)

    async def _submit_with_failover(self, key: Hashable, images: tuple[int, ...], action: SubmitOrder) -> None:
        """Tries the route entries in order until one accepts. An entry that takes fewer images gets several orders."""
        last_fault, retry_after = None, None
        tries = [*await self._list_first_tries(images, action.route_indexes), *action.retries]
        for try_number, (route_index, due_at) in enumerate(tries, 1):
            max_images = self._job_context.job.route[route_index].max_images
            if len(images) > max_images:
                return self._split_order(images, action, max_images)
            try:
                await asyncio.sleep(max(0.0, due_at - self._context.wall_clock()))
                if await self._submit_to_entry(key, images, route_index, try_number == len(tries)):
                    return
            except (OrderNotSent, SlotTimeout, UnsupportedOrder) as error:
                fault = get_unsent_order_fault(error)
                last_fault, retry_after = fault.kind, error.retry_after if isinstance(error, SlotTimeout) else None
                await self._report_skipped(route_index, fault)
                if VERDICTS[last_fault].consequence is PartConsequence.FINAL:
                    break
        update = PartAbandoned(fence=self._job_context.fence, images=images, fault=last_fault, retry_after=retry_after)
        await self._job_context.mailbox.post(update)

    async def _report_skipped(self, route_index: int, fault: Fault) -> None:
        job = self._job_context.job
        route_entry = job.route[route_index]
        offer = self._context.find_offer(route_entry, job.model)
        response = await describe_fault(self._job_context, fault, offer.seller.account if offer else None)
        self._context.emit(
            OfferSkipped(
                **self._identify_offer(route_entry),
                fault=fault.kind,
                seller_status=response.status,
                seller_code=response.code,
                seller_message=response.message or None,
            )
        )

    async def _list_first_tries(
        self, images: tuple[int, ...], route_indexes: tuple[int, ...]
    ) -> list[tuple[int, float]]:
        """Returns the untried route entries, all due now. Returns none if the retry budget is exhausted.

        Retries after the Retry-After of a seller are added later, and need no budget.
        """
        if not route_indexes or not await self._acquire_retry_budget(images, route_indexes):
            return []
        return [(route_index, 0.0) for route_index in self._sort_healthy_first(route_indexes)]

    def _get_slot_timeout(self, is_last: bool) -> float:
        """Returns how long to wait for a slot of the account. At the last seller, that is until shortly after the
        deadline.

        The margin lets the deadline itself end the job. Otherwise a slot timeout would count as a fault of the seller.
        """
        remaining_seconds = max(0.0, self._job_context.job.deadline - self._context.wall_clock())
        timing = self._context.timing.orders
        return remaining_seconds + timing.deadline_margin_seconds if is_last else timing.slot_timeout_seconds

    @property
    def _priority(self) -> Priority:
        return Priority.BATCH if self._job_context.job.batch_id else Priority.INTERACTIVE

    def _split_order(self, images: tuple[int, ...], action: SubmitOrder, max_images: int) -> None:
        """Splits the images into orders of at most `max_images`, each with a task of its own."""
        for first in range(0, len(images), max_images):
            self._start_submission(images[first : first + max_images], action)

    def _sort_healthy_first(self, route_indexes: tuple[int, ...]) -> list[int]:
        """Sorts by health, as the plan does: healthy entries first, then inexact ones, open circuit breakers last."""
        if len(route_indexes) == 1:
            return [*route_indexes]
        return sorted(
            route_indexes,
            key=lambda route_index: self._get_cell_signals(self._job_context.job.route[route_index]).health_rank,
        )

    def _is_healthy(self, route_entry: RouteEntry) -> bool:
        return self._get_cell_signals(route_entry).healthy

    def _get_cell_signals(self, route_entry: RouteEntry) -> CellSignals:
        health_key = self._context.get_health_key(route_entry, self._job_context.job.model)
        return (
            self._context.health.get_signals(health_key, self._context.wall_clock())
            if health_key
            else CellSignals(healthy=False)
        )

    # --- retry budget

    async def _acquire_retry_budget(self, images: tuple[int, ...], route_indexes: tuple[int, ...]) -> bool:
        """Returns whether an order may be sent for images that were ordered before. Waits a little for the budget.

        All orders of a job that replace its first ones count as one retry. Otherwise most jobs for ten images would
        fail. A change from a seller with an open circuit breaker to a healthy seller needs no budget.
        """
        part = self._job_context.job.find_part_with_images(images)
        try_count = len(part.tried_indexes) if part else 0
        timing = self._context.timing.orders
        if not try_count and try_count not in self._counted_tries:
            self._context.retry_budget.record_first_order(self._context.monotonic())
            self._counted_tries.add(try_count)
        give_up_at = self._context.monotonic() + timing.retry_budget_timeout_seconds
        while try_count not in self._counted_tries and not self._is_leaving_unhealthy_seller(part, route_indexes):
            now = self._context.monotonic()
            if self._context.retry_budget.can_retry(now):
                self._context.retry_budget.record_retry(now)
                self._counted_tries.add(try_count)
            elif now >= give_up_at:
                return False
            else:
                await asyncio.sleep(timing.retry_budget_poll_seconds)
        return True

    def _is_leaving_unhealthy_seller(self, part: Part | None, route_indexes: tuple[int, ...]) -> bool:
        if part is None or not part.tried_indexes:
            return False
        route = self._job_context.job.route
        return not self._is_healthy(route[part.tried_indexes[-1]]) and any(
            self._is_healthy(route[route_index]) for route_index in route_indexes
        )

    # --- one order

    async def _submit_to_entry(self, key: Hashable, images: tuple[int, ...], route_index: int, is_last: bool) -> bool:
        """Submits an order to this entry. Returns whether the entry was tried. The last entry is tried even if its
        circuit breaker is open."""
        route_entry = self._job_context.job.route[route_index]
        account_name = self._require_offer(route_entry).seller.account.name
        documents = await self._load_documents()
        slot_timeout = self._get_slot_timeout(is_last)
        async with self._context.limits.slot(account_name, slot_timeout, self._priority) as waited_seconds:
            self._context.emit(
                OrderSlotGranted(**self._identify_offer(route_entry), account=account_name, seconds=waited_seconds)
            )
            # The configuration, and the API key, may have changed while this task waited.
            offer = self._require_offer(route_entry)
            inputs = await self._uploader.upload_all(offer.seller, documents.request)
            health_key = make_health_key(offer, route_entry.cell)
            # If a probe is due, this order becomes the probe. Later orders go to other entries.
            permit = self._context.health.acquire_permit(health_key, self._context.wall_clock())
            if permit is None and not is_last:
                return False
            recorded = None
            try:
                recorded = await self._record_attempt(
                    key, offer, route_index, images, _OrderSpec(documents.request, documents.terms[route_index], inputs)
                )
            finally:
                if recorded is None and permit is not None:
                    self._context.health.release_permit(permit)
            if recorded is not None:
                await self._send_and_track(offer, *recorded)
            return True

    def _identify_offer(self, route_entry: RouteEntry) -> OfferFields:
        return identify_offer(self._job_context.job, route_entry, self._context.wall_clock())

    def _require_offer(self, route_entry: RouteEntry) -> Offer:
        """Returns the offer as configured now. Raises OrderNotSent if the seller takes no new orders."""
        offer = self._context.find_offer(route_entry, self._job_context.job.model)
        if offer is None or offer.draining_since is not None or offer.seller.account.api_key is None:
            raise OrderNotSent(Fault(kind=FaultKind.NOT_SENT, message="the seller is no longer configured"))
        return offer

    async def _load_documents(self) -> OrderDocuments:
        if documents := await self._job_context.load_order_documents():
            return documents
        raise OrderNotSent(Fault(kind=FaultKind.INPUT_MISSING, message="the saved request is missing or undecodable"))

    async def _record_attempt(
        self, key: Hashable, offer: Offer, route_index: int, images: tuple[int, ...], spec: "_OrderSpec"
    ) -> tuple[int, Call, int] | None:
        """Saves that an order is about to be sent. Returns its number, request and fence; None if it may not be sent.

        Only one attempt is recorded at a time, since its number is part of the order. The task is renamed to the key
        of the attempt, so that the worker does not start another task that would search for this order.
        """
        async with self._attempt_lock:
            attempt_number = len(self._job_context.job.attempts) + 1
            route_entry = self._job_context.job.route[route_index]
            if self._context.find_offer(route_entry, self._job_context.job.model) is not offer:
                # The configuration changed during the uploads: the worker starts again with the new one.
                return None
            call = offer.seller.adapter.submit.build_call(
                self._build_order(offer, route_entry, attempt_number, len(images), spec)
            )
            documents = (
                {call_document_name(attempt_number): encode_call(call)}
                if route_entry.recovery_method is RecoveryMethod.REPLAY
                else {}
            )
            fence = self._job_context.fence
            update = AttemptStarted(fence=fence, route_index=route_index, images=images)
            attempt_key = ("attempt", attempt_number)
            self._job_context.rename_task(key, attempt_key)
            self.in_flight.add(attempt_key)
            if await self._job_context.mailbox.post(update, documents=documents):
                return attempt_number, call, fence
            self.in_flight.discard(attempt_key)
            self._job_context.rename_task(attempt_key, key)
            return None

    def _build_order(
        self, offer: Offer, route_entry: RouteEntry, attempt_number: int, image_count: int, spec: "_OrderSpec"
    ) -> Order:
        adapter, request = offer.seller.adapter, spec.request
        has_callback = self._context.callback_urls and Feature.CALLBACK in adapter.capabilities.get_features(
            request.routing.operation
        )
        return Order(
            reference=order_reference(self._job_context.job.id, attempt_number),
            operation=request.routing.operation,
            model=route_entry.model,
            prompt=request.prompt,
            size=spec.terms.size,
            output_format=spec.terms.output_format,
            quality=spec.terms.quality_word or spec.terms.quality,
            background=spec.terms.background,
            image_count=image_count,
            input_images=spec.inputs.sources,
            mask=spec.inputs.mask,
            callback_url=(
                self._context.callback_urls.build_url(adapter.name, self._job_context.job.id, attempt_number)
                if self._context.callback_urls and has_callback
                else None
            ),
        )

    async def _send_and_track(self, offer: Offer, attempt_number: int, call: Call, fence: int) -> None:
        try:
            await self.send(offer, attempt_number, call, fence)
        finally:
            self.in_flight.discard(("attempt", attempt_number))
        await self._tracker.track(attempt_number)

    async def send(self, offer: Offer, attempt_number: int, call: Call, fence: int) -> None:
        """Sends the order and records what the response means. `fence`: that of the attempt. If the lease was lost
        since then, another worker may have sent the order, so that a rejection proves nothing."""
        adapter = offer.seller.adapter
        timeout_seconds = (
            self._get_remaining_seconds(attempt_number)
            if adapter.is_synchronous
            else self._context.timing.orders.submit_timeout_seconds
        )
        is_replayable = adapter.has_idempotency_key and offer.seller.account.replay_trusted
        max_bytes = get_max_response_bytes(adapter, len(self._job_context.get_attempt(attempt_number).images))
        options = CallOptions(
            timeout_seconds=timeout_seconds, max_response_bytes=max_bytes, fresh_connection=not is_replayable
        )
        seller_call = SellerCall(self._job_context.job, attempt_number, offer.seller.name, SellerCallStep.SUBMIT)
        sending = self._context.seller_client.send(call, offer.seller, options)
        answer = await observe_seller_call(self._context, seller_call, sending)
        progress = await parse_response(adapter.submit.read_answer, answer)
        self._report_backpressure(offer, progress)
        await self._record_response(offer, attempt_number, progress, fence if is_replayable else None)

    def _get_remaining_seconds(self, attempt_number: int) -> float:
        attempt = self._job_context.get_attempt(attempt_number)
        return max(1.0, attempt_deadline(self._job_context.job, attempt) - self._context.wall_clock())

    def _report_backpressure(self, offer: Offer, progress: Progress) -> None:
        if isinstance(progress, Failed | NoAnswer):
            self._context.limits.on_fault(offer.seller.account.name, progress.fault)

    async def _record_response(
        self, offer: Offer, attempt_number: int, progress: Progress, fence: int | None = None
    ) -> None:
        """Records what the response says. `fence`: that of the attempt, if other workers may send the order again."""
        post = self._job_context.mailbox.post
        match progress:
            case Accepted(id=str(ticket)) | InProgress(id=str(ticket)):
                latency_seconds = self._context.wall_clock() - self._job_context.get_attempt(attempt_number).started_at
                self._context.health.record_accepted(
                    offer.seller.account.name, latency_seconds, self._context.wall_clock()
                )
                await post(TicketReceived(attempt=attempt_number, ticket=ticket))
            case Ready():
                await self._tracker.result_fetcher.fetch_and_store(attempt_number, progress, offer)
            case Failed(fault=fault) | NoAnswer(fault=fault):
                update = await self._make_fault_update(offer, attempt_number, progress, fault)
                await post(
                    OrderRejected(fence=fence, failure=update) if isinstance(update, OrderFailed) and fence else update
                )
            case _:
                await post(ResponseLost(attempt=attempt_number, fault=FaultKind.UNREADABLE))

    async def _make_fault_update(
        self, offer: Offer, attempt_number: int, progress: Failed | NoAnswer, fault: Fault
    ) -> OrderFailed | ResponseLost:
        response = await describe_fault(self._job_context, fault, offer.seller.account)
        if isinstance(progress, Failed) or fault.verdict.charge_status is ChargeStatus.NOT_CHARGED:
            return OrderFailed(
                attempt=attempt_number,
                fault=fault.kind,
                cost=compute_cost(progress, offer) if isinstance(progress, Failed) else None,
                retry_after=fault.retry_after,
                seller_response=response,
                is_rejection=True,
            )
        return ResponseLost(attempt=attempt_number, fault=fault.kind, seller_response=response)


class _OrderSpec(Struct, frozen=True):
    """The content of an order, without its route entry and image count."""

    request: SavedRequest
    terms: OrderTerms
    inputs: UploadedInputs
