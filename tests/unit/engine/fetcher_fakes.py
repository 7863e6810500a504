"""A result fetcher with its store, storage, hosts and moderation hook: they fail as a test says."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from gateway.catalogue import Catalogue, ModerationHook
from gateway.config.moderation_schema import ModerationConfig, ModerationHookConfig
from gateway.config.schema import GatewayFile
from gateway.config.value_types import WebhookUrl
from gateway.engine.job_context import JobContext
from gateway.engine.job_documents import (
    OrderDocuments,
    OrderTerms,
    SavedRequest,
    encode_order_documents,
)
from gateway.engine.moderation_client import HookAnswer, HookQuestion
from gateway.engine.result_fetcher import ResultFetcher
from gateway.engine.unread_images import UnreadImages
from gateway.health.health_tracker import OrderOutcome
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import ImagesReady, ImagesStored, JobUpdate
from gateway.jobs.transitions import Ignored, apply_update
from gateway.routing.routing_request import RoutingRequest
from gateway.timeouts_and_intervals import FetchTiming, Timing
from providers.image_sizes import TargetSize
from providers.order_status import Ready
from providers.orders import Format, ImageBytes, ImageUrl, Operation, PixelSize
from tests.harness.image_bytes import HEIGHT, WIDTH, encode_image, make_quadrant_image
from tests.unit.jobs.job_scenario import START, JobScenario, make_new_job, make_route_entry
from tests.unit.routing.catalogue_factory import make_catalogue

IMAGE_BYTES = encode_image(make_quadrant_image(), "PNG")
REQUEST = SavedRequest(
    routing=RoutingRequest(
        operation=Operation.GENERATE,
        model="gpt-image-2",
        n=1,
        target=TargetSize(WIDTH, HEIGHT, "3:2", "1k"),
        quality="low",
        output_format=Format.PNG,
    ),
    prompt="a lighthouse",
)
ORDER_TERMS = (OrderTerms(size=PixelSize(WIDTH, HEIGHT), quality=None, output_format=None),)
OFFER: Any = SimpleNamespace(
    seller=SimpleNamespace(
        name="runapi", account=SimpleNamespace(name="an account", allows_private_addresses=False, proxy=None)
    ),
    token_prices=None,
)
TIMING = Timing(fetches=FetchTiming(min_backoff_seconds=0.001, max_backoff_seconds=0.005))
MAX_FETCH_TRIES = TIMING.fetches.max_tries
DownloadOutcome = bytes | Exception
HOOK = ModerationHookConfig(url=WebhookUrl("https://example.com/"))
LOST_ANSWER, ALLOWED = HookAnswer(outcome="timeout"), HookAnswer(outcome="allowed", status=200)
REFUSED = HookAnswer(outcome="refused", status=200, reason="not this")
# Of each question to the hook.
ANSWER_SECONDS = 2.0


class FakeMailbox:
    """Applies posted updates at once."""

    def __init__(self, fakes: "FetcherFakes") -> None:
        self._fakes = fakes

    async def post(
        self,
        *updates: JobUpdate,
        documents: dict[str, bytes] | None = None,
        on_saved: "partial[None] | None" = None,
        **_: Any,
    ) -> bool:
        if on_saved is not None:
            self._fakes.outcomes.append(on_saved.args[-1])
        job_context, previous_job = self._fakes.job_context, self._fakes.job_context.job
        for update in updates:
            self._fakes.posted.append(update)
            changed = apply_update(job_context.job, update, self._fakes.now)
            job_context.job = job_context.job if isinstance(changed, Ignored) else changed
        self._fakes.documents |= documents or {}
        return job_context.job is not previous_job


class FetcherFakes:
    """A store, a storage and hosts: they fail with the given errors in turn, and succeed after that."""

    def __init__(self, job: Job) -> None:
        self.now = START + 1.0
        self.store_errors: list[Exception] = []
        self.storage_errors: list[Exception] = []
        self.answer_download: Callable[[str], DownloadOutcome] = lambda url: IMAGE_BYTES
        self.posted: list[JobUpdate] = []
        self.documents: dict[str, bytes] = {}
        self.stored_keys: list[str] = []
        self.downloaded_urls: list[str] = []
        self.events: list[Any] = []
        # Of the hook, in turn, if it has answers: it is asked about one image after the other.
        self.hook_answers: list[HookAnswer] = []
        self.outcomes: list[OrderOutcome] = []
        context: Any = SimpleNamespace(
            store=SimpleNamespace(load_documents=self._load_documents),
            storage=SimpleNamespace(put=self._put_image, delete_prefix=self._delete_images),
            seller_client=SimpleNamespace(download=self._download),
            is_traced=False,
            unread_images=UnreadImages(),
            emit=self.events.append,
            wall_clock=lambda: self.now,
            monotonic=lambda: self.now,
            timing=TIMING,
            catalogue=self._make_catalogue,
            moderation_client=SimpleNamespace(ask=self._ask_hook),
        )
        self.job_context = JobContext(context, job, 1)
        self.job_context.mailbox = FakeMailbox(self)  # type: ignore[assignment]

    def _make_catalogue(self) -> Catalogue:
        moderation = ModerationConfig(after=HOOK if self.hook_answers else None)
        return replace(make_catalogue(()), gateway=GatewayFile(moderate=moderation))

    async def _ask_hook(self, hook: ModerationHook, question: HookQuestion) -> HookAnswer:
        self.now += ANSWER_SECONDS
        return self.hook_answers.pop(0) if len(self.hook_answers) > 1 else self.hook_answers[0]

    async def _load_documents(self, job: str, *names: str) -> dict[str, bytes]:
        if self.store_errors:
            raise self.store_errors.pop(0)
        return encode_order_documents(OrderDocuments(REQUEST, ORDER_TERMS))

    async def _put_image(self, key: str, data: bytes, media_type: str) -> None:
        if self.storage_errors:
            raise self.storage_errors.pop(0)
        self.stored_keys.append(key)

    async def _delete_images(self, prefix: str) -> None:
        self.stored_keys = [key for key in self.stored_keys if not key.startswith(prefix)]

    async def _download(self, url: str, private: bool, proxy: object, account: str) -> bytes:
        self.downloaded_urls.append(url)
        answer = self.answer_download(url)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fetch_and_store(self, *images: ImageBytes | ImageUrl) -> bool:
        delivery = ResultFetcher(self.job_context).fetch_and_store(1, Ready(images=images, cost=7), OFFER)
        return asyncio.run(asyncio.wait_for(delivery, 60))

    @property
    def stored_update(self) -> ImagesStored:
        [last] = [update for update in self.posted if isinstance(update, ImagesStored)]
        return last

    def list_ready_updates(self) -> list[ImagesReady]:
        return [update for update in self.posted if isinstance(update, ImagesReady)]


def make_fakes(n: int = 1, is_pollable: bool = False) -> FetcherFakes:
    scenario = JobScenario(
        make_new_job(n=n, id="job_07abcdefghijklmnopqrstuvwxyz", route=(make_route_entry(is_pollable=is_pollable),))
    )
    images = tuple(range(n))
    scenario.receive_ticket(0, images) if is_pollable else scenario.start_attempt(0, images)
    return FetcherFakes(scenario.job)


def make_inline_image() -> ImageBytes:
    return ImageBytes(IMAGE_BYTES, "image/png", "")


def make_image_url(number: int) -> ImageUrl:
    return ImageUrl(f"https://images.example/{number}")


def fail_url(url: ImageUrl, *errors: Exception) -> Callable[[str], DownloadOutcome]:
    """Makes this URL raise these errors in turn. Afterwards, and for all other URLs, the image is returned."""
    remaining = list(errors)
    return lambda requested_url: remaining.pop(0) if requested_url == url.url and remaining else IMAGE_BYTES
