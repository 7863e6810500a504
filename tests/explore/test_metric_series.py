"""The number of series stays small: for any requests, and with everything in use."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gateway.assets.storage import ImageStorage
from gateway.catalogue import Catalogue
from gateway.components import Factories
from gateway.config.reloader import ConfigReloader
from gateway.config.value_types import Secret, SecretRef
from gateway.events import CommitResult, Event, StoreCommitted
from gateway.gateway_lifecycle import Gateway
from gateway.jobs.job import JobState
from gateway.memory_budget import MemoryBudget
from gateway.settings import load_settings
from gateway.telemetry.metrics import Metrics
from gateway.webhooks.webhook_records import DeliveryStatus, WebhookOutcome
from providers import ADAPTERS
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.virtual_time_loop import run_in_virtual_time
from tests.unit.telemetry.sample_events import ATTEMPT_ENDED, JOB_ENDED, WEBHOOK_DELIVERED

MAX_SERIES, REQUEST_COUNT = 2_000, 10_000
# A part of all names that are sent.
MARK = "hostile"
CONFIG = Path(__file__).parents[1] / "config"
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
KEYS = ("env:IGW_KEY_DESIGN", "env:IGW_KEY_MARKETING")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "X" * 30, "get")
HOSTILE_TEXTS = ('a"b', "a\\b", 'x"} 1', "ø" * 20, "../..", "a\nb", "", " ", "{job_id}", "le")
ROUTES = (
    *("/v1/images/generations", "/v1/jobs", "/v1/images/edits", "/v1/responses", "/v1/quotes", "/v1/files"),
    *("/v1/batches", "/v1/models", "/openai/deployments/{}/images/generations", "/images/generations", "/v1/jobs/{}"),
    *("/v1/jobs/{}/cancel", "/v1/jobs/{}/events", "/files/{}", "/callbacks/{}/{}/1/x", "/v1/admin/keys/{}", "/{}/{}"),
    *("/v1/models/{}", "/v1/responses/{}", "/openai/v1/responses", "/livez", "/docs", "/v1/files/{}/content"),
)


def find_secret(reference: SecretRef) -> Secret:
    return Secret(str(reference))


class RefusingSellers:
    """A seller client whose orders all fail, each with a random fault."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.transport_pool: Any = SimpleNamespace(get=lambda *_: None)
        self.memory_budget = self.url_memory_budget = MemoryBudget()

    async def send(self, *_: object) -> NoAnswer:
        await asyncio.sleep(0.1)
        return NoAnswer(fault=Fault(kind=self._random.choice(list(FaultKind))))

    async def aclose(self) -> None:
        """There are no connections."""


@asynccontextmanager
async def run_shipped_gateway(folder: Path, random: Random) -> AsyncIterator[Gateway]:
    """Runs a gateway with the configuration of the tests in memory. The name of a secret is its value."""
    loop, state = asyncio.get_running_loop(), MemoryState()
    gateway = Gateway(
        load_settings({"IGW_SECRET": "a secret for signing URLs"}, config=CONFIG, data=folder),
        lambda on_reload: ConfigReloader(CONFIG, find_secret, ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
        Factories(
            make_store=lambda options: MemoryStore(state, clock=options.wall_clock),
            make_storage=lambda *_: ImageStorage(MemoryBackend()),
            make_seller_client=lambda _: RefusingSellers(random),  # type: ignore[arg-type, return-value]
            system_clock=loop.time,
            monotonic=loop.time,
        ),
    )
    async with gateway.app.lifespan():
        yield gateway
        await gateway.drain()


class RandomRequests:
    """Sends random requests to an application: unknown and known routes, hostile names, and some valid orders."""

    def __init__(self, gateway: Gateway, random: Random) -> None:
        self._app, self._random = gateway.app, random

    async def send(self) -> None:
        choice, is_order = self._random.choice, self._random.random() < 0.02
        method = "POST" if is_order else choice(METHODS)
        path = (
            choice(ROUTES[:2]) if is_order else choice(ROUTES).replace("{}", choice([*HOSTILE_TEXTS, MARK, "job_0a"]))
        )
        key = choice([choice(KEYS), "igw_unknown", choice(HOSTILE_TEXTS)]) if not is_order else None
        await self._call(method, path, key or choice(KEYS), self._make_body(is_order))

    def _make_body(self, is_order: bool) -> bytes:
        choice = self._random.choice
        body = {"prompt": "a fox", "size": choice(["1024x1024", "2048x2048", "3840x2160", "1536x1024"])}
        body["quality"] = choice(["low", "medium", "high", "auto"])
        if not is_order:
            name = f"{choice(HOSTILE_TEXTS)}{MARK}{self._random.random()}"
            body |= {choice(["model", "policy", "user", "size", "quality", "team", name]): name}
        return msgspec.json.encode(body)

    async def _call(self, method: str, path: str, key: str, body: bytes) -> None:
        messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Future()

        async def send(_: Any) -> None:
            """The answer does not matter."""

        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "content-length": len(body)}
        raw_headers = [(name.encode(), str(value).encode()) for name, value in headers.items()]
        scope: Any = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": ""},
            **{"method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": raw_headers},
            **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)},
        }
        await self._app(scope, receive, send)


def count_series(metrics: Metrics) -> int:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return sum(len(family.samples) for family in families)


class SeriesCounts(Struct, frozen=True):
    """The numbers of series after half of the requests, after all, and with everything in use; all label values."""

    middle: int
    end: int
    full_use: int
    label_values: set[str]


async def count_series_after_random_requests(folder: Path) -> SeriesCounts:
    random = Random(7)
    async with run_shipped_gateway(folder, random) as gateway:
        requests, counts = RandomRequests(gateway, random), []
        for _ in range(2):
            for _ in range(REQUEST_COUNT // 100):
                await asyncio.gather(*(requests.send() for _ in range(50)))
            counts.append(count_series(gateway.metrics))
        families = text_string_to_metric_families(gateway.metrics.render()[0].decode())
        values = {
            value
            for family in families
            for sample in family.samples
            for label, value in sample.labels.items()
            if label != "le"
        }
        for event in list_events_of_full_use(gateway.catalogue.get()):
            gateway.metrics(event)
        return SeriesCounts(*counts, count_series(gateway.metrics), values)


def list_events_of_full_use(catalogue: Catalogue) -> Iterator[Event]:
    """Yields what a process reports if it delivers images of every cell of every seller to every team, and each seller
    fails in every way, and in every cell; the servers of the teams answer webhooks in every way."""
    for result in CommitResult:
        yield StoreCommitted(outcome=result, seconds=0.1)
    for team, outcome in product(catalogue.teams, WebhookOutcome):
        for status in (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED):
            yield replace(WEBHOOK_DELIVERED, team=team, outcome=outcome, delivery_status=status)
    for offer, team in product(catalogue.iter_offers(), catalogue.teams):
        seller, model = offer.seller.name, offer.model
        for cell in offer.prices:
            yield replace(JOB_ENDED, team=team, model=model, cell=cell)
            yield replace(ATTEMPT_ENDED, team=team, seller=seller, model=model, cell=cell)
            yield replace(ATTEMPT_ENDED, seller=seller, model=model, cell=cell, fault=FaultKind.UNAVAILABLE)
            yield replace(JOB_ENDED, model=model, cell=cell, state=JobState.FAILED, fault=FaultKind.UNAVAILABLE)
        for fault in FaultKind:
            yield replace(ATTEMPT_ENDED, seller=seller, model=model, fault=fault)
            yield replace(JOB_ENDED, team=team, model=model, state=JobState.FAILED, fault=fault)


@pytest.mark.thorough
def test_random_requests_and_full_use_create_few_series(tmp_path: Path) -> None:
    counts = run_in_virtual_time(count_series_after_random_requests(tmp_path))
    print(f"{counts.middle} series after half of the requests, {counts.end} after all, {counts.full_use} in full use")
    assert counts.end - counts.middle < 100, "the number grows with the requests"
    assert counts.full_use <= MAX_SERIES
    assert not [value for value in counts.label_values if MARK in value or "ø" in value or '"' in value]
    assert "unknown" in counts.label_values, "paths that do not exist count as one route"
