"""Replicas that send webhooks from one store in memory to simulated targets, in virtual time."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from random import Random
from typing import Any

from msgspec import Struct

from gateway.catalogue import Catalogue, CatalogueInForce
from gateway.config.schema import PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.value_types import Secret, SecretRef, TargetName, WebhookUrl
from gateway.config.webhook_schema import WebhooksConfig, WebhookTargetConfig
from gateway.events import ErrorReported, Event
from gateway.jobs.document_names import WEBHOOK
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import CancelRequested
from gateway.store.base import Applied
from gateway.store.team_records import RecordKind
from gateway.task_supervisor import TaskSupervisor
from gateway.timeouts_and_intervals import WebhookTiming
from gateway.upstream.webhook_client import WebhookAnswer, WebhookRequest
from gateway.webhooks.stored_targets import StoredTargets
from gateway.webhooks.webhook_attempt import WebhookContext
from gateway.webhooks.webhook_events import WebhookAttempted
from gateway.webhooks.webhook_records import WebhookRecord, decode_delivery
from gateway.webhooks.webhook_sender import WebhookSender
from tests.harness.memory_store import MemoryState, MemoryStore, StoreCall
from tests.store import job_factory

TEAM, OTHER_TEAM = "acme", "globex"
SECRET = Secret("whsec_c2VjcmV0IG9mIDI0IGJ5dGVzIG9yIG1vcmU=")
OLD_SECRET = Secret("whsec_dGhlIG9sZCBzZWNyZXQsIHZhbGlkIGZvciBub3c=")
REQUEST_SECONDS = 0.05
# Answers a webhook at this time; None: it never answers.
Behaviour = Callable[[float], int | None]


class ReceivedWebhook(Struct, frozen=True):
    """A webhook as a target received it."""

    at: float
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


def answer_always(status: int | None) -> Behaviour:
    return lambda _: status


def answer_after(moment: float) -> Behaviour:
    """A target that refuses connections until then."""
    return lambda now: 204 if now >= moment else 0


class WebhookWorld:
    """The store, the targets and the replicas. `behaviours`: by host; other hosts accept everything.

    `crash_rate`: how often a replica crashes after its target has received a webhook, before that is recorded.
    """

    def __init__(
        self,
        *,
        secrets: tuple[Secret, ...] = (SECRET,),
        crash_rate: float = 0.0,
        interval_seconds: float = WebhookTiming().interval_seconds,
    ) -> None:
        self.state, self.random = MemoryState(), Random(1)  # noqa: S311  seeded
        self.behaviours: dict[str, Behaviour] = {}
        self.teams: tuple[str, ...] = (TEAM, OTHER_TEAM)
        self.targets: dict[TargetName, WebhookTargetConfig] = {}
        self.payload, self.secrets, self.crash_rate = "thin", secrets, crash_rate
        self.received: list[ReceivedWebhook] = []
        self.events: list[WebhookAttempted] = []
        self.errors: list[ErrorReported] = []
        self.crash_count = self.interrupted_count = 0
        self.replicas: list[WebhookReplica] = []
        self.timing = WebhookTiming(interval_seconds=interval_seconds)
        self.first_received = asyncio.Event()
        self._numbers = count(1)
        self.store = MemoryStore(self.state, replica_id="clients", clock=self.now)

    def now(self) -> float:
        return job_factory.NOON + asyncio.get_running_loop().time()

    def get_catalogue(self) -> Catalogue:
        webhooks = WebhooksConfig(secrets=(SecretRef("env:SECRET"),), payload=self.payload, targets=self.targets)
        return Catalogue(
            hash="",
            models={},
            aliases={},
            accounts={},
            sellers={},
            offers={},
            policies=PoliciesFile(policies={}, default=""),
            teams={team: TeamConfig(webhooks=webhooks) for team in self.teams},
            reload=ReloadConfig(),
            webhook_secrets=dict.fromkeys(self.teams, self.secrets) if self.secrets else {},
        )

    async def open(self) -> None:
        await self.store.open()

    def add_target(self, name: str, url: str, **options: Any) -> None:
        self.targets[TargetName.parse(name)] = WebhookTargetConfig(url=WebhookUrl.parse(url), **options)

    async def start_replica(self, crash: "CrashAtCall | None" = None) -> "WebhookReplica":
        replica = WebhookReplica(self, f"sender-{next(self._numbers)}", crash)
        self.replicas.append(replica)
        await replica.start()
        return replica

    async def end_job(
        self, url: str | None = "https://hooks.example.com/jobs", team: str = TEAM, **changes: Any
    ) -> Job:
        """Creates a job, and cancels it."""
        documents = {WEBHOOK: url.encode()} if url else {}
        commit = job_factory.make_create_commit(self.now(), team, has_webhook=True, documents=documents, **changes)
        assert await self.store.commit(commit) == Applied()
        ending = job_factory.make_update_commit(commit.job, CancelRequested(), self.now())
        assert await self.store.commit(ending) == Applied()
        return ending.job

    def list_records(self) -> list[WebhookRecord]:
        records = self.state.team_records.records.values()
        return [decode_delivery(record) for record in records if record.kind is RecordKind.DELIVERY]

    def group_received(self) -> dict[str, list[ReceivedWebhook]]:
        """Returns what targets received, by its id."""
        groups = defaultdict(list)
        for webhook in self.received:
            groups[webhook.id].append(webhook)
        return dict(groups)

    def iterate_accepted(self) -> Iterator[ReceivedWebhook]:
        """Yields what was received and accepted."""
        for webhook in self.received:
            if self.get_behaviour(webhook.url)(webhook.at) == 204:
                yield webhook

    def get_behaviour(self, url: str) -> Behaviour:
        return self.behaviours.get(WebhookUrl(url).host, answer_always(204))

    async def load_job_body(self, job: Job) -> Mapping[str, Any]:
        return {"id": job.id, "object": "job", "status": job.state, "n": job.n}

    def on_event(self, event: Event) -> None:
        if isinstance(event, WebhookAttempted):
            self.events.append(event)
        if isinstance(event, ErrorReported):
            self.errors.append(event)


class CrashAtCall:
    """Crashes a replica at one of its store's calls since the first webhook was committed: before the call has its
    effect, or after it."""

    def __init__(self, world: WebhookWorld, number: int, *, is_after_effect: bool) -> None:
        self._world, self._calls_left, self._is_after_effect = world, number, is_after_effect
        self.replica: WebhookReplica | None = None

    async def before_call(self, call: StoreCall) -> None:
        if self._world.state.outbox or self._world.list_records():
            self._calls_left -= 1
        if not self._is_after_effect:
            self._crash_if_due()

    async def after_call(self, call: StoreCall, result: object) -> None:
        if self._is_after_effect:
            self._crash_if_due()

    def _crash_if_due(self) -> None:
        if self._calls_left <= 0 and self.replica is not None and not self.replica.is_killed:
            self.replica.kill()


class WebhookReplica:
    """One process that sends webhooks. It takes the place of the HTTP client, too."""

    def __init__(self, world: WebhookWorld, name: str, crash: CrashAtCall | None = None) -> None:
        self._world, self.is_killed = world, False
        self.store = MemoryStore(world.state, replica_id=name, clock=world.now, interceptor=crash)
        if crash is not None:
            crash.replica = self
        self._open_request_count = 0
        self._supervisor = TaskSupervisor(world.on_event, asyncio.get_running_loop().time)
        self.catalogue = CatalogueInForce(world.get_catalogue())
        self.stored_targets = StoredTargets(self.store, self.catalogue, world.now, world.on_event)
        self.context = WebhookContext(
            store=self.store,
            client=self,  # type: ignore[arg-type]
            catalogue=self._get_catalogue,
            emit=world.on_event,
            wall_clock=world.now,
            draw_random=world.random.random,
            timing=world.timing,
            refresh_targets=self.stored_targets.refresh,
            load_job_body=world.load_job_body,
        )
        self.sender = WebhookSender(self.context)

    def _get_catalogue(self) -> Catalogue:
        self.catalogue.set_configured(self._world.get_catalogue())
        return self.catalogue.get()

    async def start(self) -> None:
        await self.store.open()
        self._task = self._supervisor.run("webhooks", self.sender.run)

    async def stop(self) -> None:
        await self._task.stop()
        await self.sender.stop()
        await self.store.close()

    def kill(self) -> None:
        """Crashes the process: nothing of it happens any more, and requests without an answer stay so."""
        world = self._world
        self.is_killed = True
        world.crash_count += 1
        world.interrupted_count += self._open_request_count
        self.store.kill()
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._task.stop()))

    async def send(self, request: WebhookRequest, timeout_seconds: float) -> WebhookAnswer:
        world = self._world
        if self.is_killed:
            raise asyncio.CancelledError
        answer = world.get_behaviour(request.url)(world.now())
        if answer == 0:
            return WebhookAnswer(failure="connect_failed")
        world.received.append(ReceivedWebhook(world.now(), request.url, request.headers, request.body))
        world.first_received.set()
        self._open_request_count += 1
        if answer is not None and world.random.random() < world.crash_rate:
            self.kill()
            raise asyncio.CancelledError
        await asyncio.sleep(timeout_seconds if answer is None else REQUEST_SECONDS)
        if self.is_killed:
            raise asyncio.CancelledError
        self._open_request_count -= 1
        return WebhookAnswer(failure="timeout") if answer is None else WebhookAnswer(status=answer)


async def replace_crashed_replicas(world: WebhookWorld, restart_seconds: float = 20.0) -> None:
    """Starts another replica for each one that has crashed."""
    while True:
        await asyncio.sleep(restart_seconds)
        for replica in [replica for replica in world.replicas if replica.is_killed]:
            world.replicas.remove(replica)
            await world.start_replica()
