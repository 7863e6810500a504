"""Fetches the images of finished orders, checks and converts them, stores them, and records the result."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.assets.gif_and_svg_header import read_delivered_header
from gateway.assets.image_conversion import convert_image
from gateway.assets.image_header import InvalidImage, read_header
from gateway.assets.object_keys import make_object_key, make_object_prefix
from gateway.assets.output_check import ExpectedOutput, check_output
from gateway.assets.storage import StorageError
from gateway.catalogue import Offer
from gateway.engine.commit_events import identify_job, identify_offer, record_health
from gateway.engine.fetch_results import FetchResult, StoredResult, WithheldResult, select_missing_fault
from gateway.engine.finished_order_cost import compute_cost
from gateway.engine.job_context import JobContext
from gateway.engine.job_documents import OrderTerms, SavedRequest, StoredImage, encode_document
from gateway.engine.moderation import HookDecision, HookVerdict, ImageInQuestion, check_image
from gateway.engine.seller_call_events import SellerCall, observe_seller_call
from gateway.engine.seller_response_builder import describe_success
from gateway.events import ErrorReported, ImageStored, LateImagesReceived, SellerCallStep, describe_exception
from gateway.health.health_tracker import OrderOutcome
from gateway.jobs.document_names import call_document_name, image_document_name
from gateway.jobs.job import Attempt, RecoveryMethod
from gateway.jobs.job_update_types import ImagesReady, ImagesStored
from gateway.jobs.next_actions import attempt_deadline
from gateway.store.base import StoreUnavailable
from gateway.upstream.download import DownloadError
from providers.image_sizes import DEFAULT_SIZE_LAW, SizeLaw
from providers.order_status import Ready
from providers.orders import ImageBytes, ImageSource, ImageUrl

BACKOFF_FACTOR = 3.0
ResultT = TypeVar("ResultT")


class ImageGone(Exception):
    """The image is not at its URL any more. The seller may return another URL when polled."""


class FinishedOrder(Struct, frozen=True):
    """An order whose images are made, with the seller's response. `attempt`: as it was then. Later its state may be
    another, but not what was ordered."""

    attempt: Attempt
    ready: Ready
    offer: Offer


class ResultFetcher:
    """Fetches the images of one job. The images are paid for, so they stay in memory until they are stored."""

    def __init__(self, job_context: JobContext) -> None:
        self._job_context = job_context
        self._context = job_context.engine_context
        # By attempt number and image index.
        self._results: dict[tuple[int, int], FetchResult] = {}
        self._failed_tries: Counter[tuple[int, int]] = Counter()
        self._backoffs: defaultdict[int, Iterator[float]] = defaultdict(self._generate_backoff_delays)

    async def fetch_and_store(self, attempt_number: int, ready: Ready, offer: Offer) -> bool:
        """Fetches and stores the images. Returns whether the attempt ended. If not, the seller is polled again: it may
        return new URLs."""
        order = FinishedOrder(self._job_context.get_attempt(attempt_number), ready, offer)
        sources = dict(zip(order.attempt.images, ready.images, strict=False))
        if self._is_early_record_needed(order):
            await self._record_ready(order)
        while True:
            await self._fetch_missing(order, sources)
            results = [result for index in sources if (result := self._results.get((attempt_number, index)))]
            is_missing = len(results) < len(sources)
            if not (is_missing and self._should_retry_fetch(order)):
                await self._record_stored(order, results, is_missing)
                return True
            await self._record_ready(order)
            if not self._job_context.get_attempt(attempt_number).state.is_open:
                await self._discard_if_deleted(order)
                return True
            await asyncio.sleep(next(self._backoffs[attempt_number]))
            if self._job_context.job.can_poll(self._job_context.get_attempt(attempt_number)):
                return False

    def _should_retry_fetch(self, order: FinishedOrder) -> bool:
        """Returns whether to try again: an image is neither stored, withheld nor lost, and there is enough time."""
        attempt, timing = order.attempt, self._context.timing.fetches
        image_keys = ((attempt.number, index) for index, _ in zip(attempt.images, order.ready.images, strict=False))
        is_any_pending = any(
            image_key not in self._results and self._failed_tries[image_key] < timing.max_tries
            for image_key in image_keys
        )
        remaining_seconds = self._get_image_expiry(attempt) - self._context.wall_clock()
        return is_any_pending and remaining_seconds > timing.max_backoff_seconds

    def _get_image_expiry(self, attempt: Attempt) -> float:
        return attempt_deadline(self._job_context.job, replace(attempt, images_ready=True))

    # --- record that images are ready

    def _is_early_record_needed(self, order: FinishedOrder) -> bool:
        """Returns whether to record that the images are ready before they are fetched.

        If the order cannot be polled again, the URLs must not be lost. Near a deadline, the record keeps the job
        waiting for images that are paid for.
        """
        return bool(self._list_urls_to_save(order, order.attempt)) or self._is_near_deadline(order.attempt)

    async def _record_ready(self, order: FinishedOrder) -> None:
        """Records once that the images are ready. After that, the attempt ends without images only when they expire."""
        attempt, ready = self._job_context.get_attempt(order.attempt.number), order.ready
        if attempt.images_ready:
            return
        cost, links = compute_cost(ready, order.offer), self._list_urls_to_save(order, attempt)
        await self._job_context.mailbox.post(
            ImagesReady(
                attempt=order.attempt.number,
                cost=cost,
                made_count=_count_made_images(attempt, ready),
                image_urls=links,
                usage=ready.usage,
                seller_response=describe_success(ready),
            )
        )

    def _list_urls_to_save(self, order: FinishedOrder, attempt: Attempt) -> tuple[str, ...]:
        """Returns the image URLs of an order that cannot be polled again. Other orders need no saved URLs."""
        if self._job_context.job.can_poll(attempt):
            return ()
        return tuple(source.url for source in order.ready.images if isinstance(source, ImageUrl))

    def _is_near_deadline(self, attempt: Attempt) -> bool:
        deadline = min(self._job_context.job.deadline, attempt_deadline(self._job_context.job, attempt))
        return deadline - self._context.wall_clock() < self._context.timing.fetches.max_fetch_seconds

    # --- record that images are stored

    async def _record_stored(self, order: FinishedOrder, results: list[FetchResult], is_missing: bool) -> None:
        attempt = order.attempt
        stored = [result for result in results if isinstance(result, StoredResult)]
        withheld = [result for result in results if isinstance(result, WithheldResult)]
        notes = [result.note for result in withheld]
        warnings = dict.fromkeys([*notes, *(warning for result in stored for warning in result.warnings)])
        update = ImagesStored(
            attempt=attempt.number,
            images=tuple([result.image.index for result in stored]),
            made_count=_count_made_images(attempt, order.ready),
            cost=compute_cost(order.ready, order.offer),
            missing_fault=select_missing_fault(withheld, is_missing),
            warnings=tuple(warnings),
            usage=order.ready.usage,
            seller_response=describe_success(order.ready, notes),
        )
        documents = {
            image_document_name(attempt.number, result.image.index): encode_document(result.image) for result in stored
        }
        # Withheld images count for the seller like stored ones: it has delivered them.
        outcome = OrderOutcome(
            elapsed_seconds=self._context.wall_clock() - attempt.started_at,
            moderation_seconds=max([result.moderation_seconds for result in results], default=0.0),
            is_as_ordered=all([result.matches_order for result in results]),
        )
        on_saved = (
            partial(record_health, self._context, self._job_context.job, attempt, outcome)
            if results and not is_missing
            else None
        )
        is_call_saved = self._job_context.get_route_entry(attempt).recovery_method is RecoveryMethod.REPLAY
        removed_documents = (call_document_name(attempt.number),) if is_call_saved else ()
        await self._job_context.mailbox.post(
            update, documents=documents, removed_documents=removed_documents, on_saved=on_saved
        )
        await self._discard_if_deleted(order)
        if stored and not self._job_context.get_attempt(order.attempt.number).delivered_count:
            self._context.emit(
                LateImagesReceived(
                    **identify_job(self._job_context.job, self._context.wall_clock()),
                    attempt=order.attempt.number,
                    seller=order.offer.seller.name,
                    images=len(stored),
                )
            )

    async def _discard_if_deleted(self, order: FinishedOrder) -> None:
        """Deletes the images again if the team has deleted the job. This process may have been paused meanwhile."""
        if (job := self._job_context.job).is_deleted:
            prefix = make_object_prefix(job.id)
            await self._retry_until_available(order, partial(self._context.storage.delete_prefix, prefix))

    async def _load_order_spec(self, order: FinishedOrder) -> tuple[SavedRequest, OrderTerms]:
        documents = self._job_context.order_documents or await self._retry_until_available(
            order, self._job_context.load_order_documents
        )
        if documents is None:
            raise KeyError(f"the request of {self._job_context.job.id} is missing or undecodable")
        return documents.request, documents.terms[order.attempt.route_index]

    async def _fetch_missing(self, order: FinishedOrder, sources: Mapping[int, ImageSource]) -> None:
        """Fetches the images that are not stored. Most orders are for one, which needs no task of its own."""
        missing = [index for index in sources if (order.attempt.number, index) not in self._results]
        if len(missing) == 1:
            return await self._fetch_one(order, missing[0], sources[missing[0]])
        await asyncio.gather(*(self._fetch_one(order, index, sources[index]) for index in missing))

    # --- one image

    async def _fetch_one(self, order: FinishedOrder, index: int, source: ImageSource) -> None:
        """Fetches one image, and stores it unless it is withheld. Counts a failed try."""
        image_key, started_at = (order.attempt.number, index), self._context.monotonic()
        try:
            data = await self._download_image(order, source)
            downloaded_at = self._context.monotonic()
            self._results[image_key] = result = await self._store_one(order, index, data)
            if isinstance(result, StoredResult):
                self._emit_image_stored(order, result, started_at, downloaded_at)
        except DownloadError as error:
            self._report_error(type(error).__name__)
        except (ImageGone, InvalidImage):
            # Inline bytes stay invalid; another download may succeed.
            max_tries = self._context.timing.fetches.max_tries
            self._failed_tries[image_key] += max_tries if isinstance(source, ImageBytes) else 1
        except Exception as error:  # noqa: BLE001  one image must not cost its siblings
            self._report_error(describe_exception(error))
            self._failed_tries[image_key] += 1

    def _emit_image_stored(
        self, order: FinishedOrder, result: StoredResult, started_at: float, downloaded_at: float
    ) -> None:
        job, attempt = self._job_context.job, order.attempt
        self._context.emit(
            ImageStored(
                **identify_offer(job, job.route_entry(attempt), self._context.wall_clock()),
                attempt=attempt.number,
                model=job.model,
                bytes=result.image.bytes,
                download_seconds=downloaded_at - started_at,
                store_seconds=self._context.monotonic() - downloaded_at - result.moderation_seconds,
                is_as_ordered=result.matches_order,
            )
        )

    def _report_error(self, message: str) -> None:
        self._context.emit(ErrorReported(component="result_fetcher", message=message, job=self._job_context.job.id))

    async def _retry_until_available(
        self, order: FinishedOrder, operation: Callable[[], Awaitable[ResultT]]
    ) -> ResultT:
        """Retries until the store and the storage accept: only this process has the image."""
        backoff_delays = self._generate_backoff_delays()
        while True:
            try:
                return await operation()
            except (StorageError, StoreUnavailable) as error:
                self._report_error(type(error).__name__)
            await self._record_ready(order)
            await asyncio.sleep(next(backoff_delays))

    def _generate_backoff_delays(self) -> Iterator[float]:
        delay = self._context.timing.fetches.min_backoff_seconds
        while True:
            yield delay
            delay = min(delay * BACKOFF_FACTOR, self._context.timing.fetches.max_backoff_seconds)

    async def _download_image(self, order: FinishedOrder, source: ImageSource) -> bytes:
        """Downloads an image, or takes its inline bytes. Raises ImageGone, or a DownloadError that may be transient."""
        if isinstance(source, ImageBytes):
            return source.data
        seller, account = order.offer.seller, order.offer.seller.account
        try:
            return await observe_seller_call(
                self._context,
                SellerCall(self._job_context.job, order.attempt.number, seller.name, SellerCallStep.DOWNLOAD),
                self._context.seller_client.download(
                    source.url, account.allows_private_addresses, proxy=account.proxy, account=account.name
                ),
            )
        except DownloadError as error:
            if error.is_permanent:
                raise ImageGone from error
            raise

    async def _store_one(self, order: FinishedOrder, index: int, delivered_data: bytes) -> FetchResult:
        """Checks and converts one image, and stores it if the operator's moderation allows it. Raises InvalidImage."""
        request, terms = await self._load_order_spec(order)
        output_format = request.routing.output_format
        delivered_header = read_delivered_header(delivered_data, output_format)
        data = await convert_image(delivered_data, delivered_header, output_format, request.output_compression)
        header = delivered_header if data is delivered_data else read_header(data)
        digest = sha256(data).hexdigest()
        expected = ExpectedOutput(request.routing.target, terms.size, self._find_size_law(request.routing.model))
        check = check_output(delivered_header, expected, output_format)
        asked_at = self._context.monotonic()
        decision = await self._await_decision(
            order, self._make_question(index, request, data, header.format.media_type, digest)
        )
        moderation_seconds = self._context.monotonic() - asked_at
        if decision.verdict is not HookVerdict.ALLOWED:
            return WithheldResult(
                index=index,
                decision=decision,
                matches_order=check.matches_order,
                moderation_seconds=moderation_seconds,
            )
        # The key contains the digest, since another replica that fetches the same order may receive other images.
        key = make_object_key(
            self._job_context.job.id, f"image-{order.attempt.number}-{index}-{digest[:16]}.{header.format}"
        )
        await self._retry_until_available(
            order, partial(self._context.storage.put, key, data, header.format.media_type)
        )
        self._context.unread_images.add(key, data)
        image = StoredImage(
            index=index,
            key=key,
            format=header.format,
            width=header.width,
            height=header.height,
            bytes=len(data),
            sha256=digest,
            seller=order.offer.seller.name,
            attempt=order.attempt.number,
            quality=terms.quality,
            is_opaque=not header.has_alpha,
        )
        return StoredResult(
            image=image,
            matches_order=check.matches_order,
            warnings=(*terms.substitutions, *check.warnings),
            moderation_seconds=moderation_seconds,
        )

    def _make_question(
        self, index: int, request: SavedRequest, data: bytes, media_type: str, digest: str
    ) -> ImageInQuestion:
        job = self._job_context.job
        return ImageInQuestion(
            team=job.team,
            job=job.id,
            index=index,
            prompt=request.prompt,
            model=job.model,
            operation=request.routing.operation,
            media_type=media_type,
            sha256=digest,
            data=data,
            traceparent=job.traceparent,
        )

    async def _await_decision(self, order: FinishedOrder, image: ImageInQuestion) -> HookDecision:
        """Asks the operator's moderation. Repeats that while it gives no valid answer and fails closed, as often as a
        download: the image is paid for."""
        backoff_delays = self._generate_backoff_delays()
        for _ in range(self._context.timing.fetches.max_tries - 1):
            decision = await check_image(self._context, image)
            if decision.verdict is not HookVerdict.UNAVAILABLE:
                return decision
            await self._record_ready(order)
            await asyncio.sleep(next(backoff_delays))
        return await check_image(self._context, image)

    def _find_size_law(self, model_name: str) -> SizeLaw:
        """Returns the law of the job's model; the default one if the model was removed from the configuration."""
        model = self._context.catalogue().models.get(model_name)
        return model.size_law if model else DEFAULT_SIZE_LAW


def _count_made_images(attempt: Attempt, ready: Ready) -> int:
    """Counts the images that were ordered and made."""
    return min(len(ready.images), len(attempt.images))
