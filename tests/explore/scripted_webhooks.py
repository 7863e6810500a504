"""The target of the explored jobs' webhooks, and the sender of each replica.

The sender has the replica's store, without failpoints: a kill ends it wherever it is. So its own random numbers and
effects change no story.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from gateway.catalogue import Catalogue
from gateway.config.value_types import Secret
from gateway.events import EventSink
from gateway.jobs.job import Job
from gateway.store.team_records import RecordKind
from gateway.timeouts_and_intervals import WebhookTiming
from gateway.upstream.webhook_client import WebhookAnswer, WebhookRequest
from gateway.webhooks.webhook_attempt import WebhookContext
from gateway.webhooks.webhook_records import decode_delivery
from gateway.webhooks.webhook_sender import WebhookSender
from tests.explore.sellers_config import TEAM
from tests.harness.memory_store import MemoryState, MemoryStore

SECRET = Secret("whsec_c2VjcmV0IG9mIHRoZSBleHBsb3JlcnMsIDI0IGJ5dGVz")
FAILURE_RATE = 0.1
# Looking at the store each second would take most of the time of a calm run.
TIMING = WebhookTiming(interval_seconds=5.0, lease_seconds=15.0)


class ScriptedTarget:
    """Receives webhooks, and refuses some of them. `accepted_ids`: of each job, the ids of those that it accepted."""

    def __init__(self) -> None:
        self.accepted_ids: defaultdict[str, set[str]] = defaultdict(set)
        self._random = Random("webhooks")

    async def send(self, request: WebhookRequest, _: float) -> WebhookAnswer:
        if self._random.random() < FAILURE_RATE:
            return WebhookAnswer(status=503)
        event = msgspec.json.decode(request.body)
        self.accepted_ids[event["data"]["id"]].add(request.headers["webhook-id"])
        return WebhookAnswer(status=204)


def make_sender(
    target: ScriptedTarget,
    store: MemoryStore,
    get_catalogue: Callable[[], Catalogue],
    emit: EventSink,
    clock: Callable[[], float],
) -> WebhookSender:
    return WebhookSender(
        WebhookContext(
            store=store,
            client=target,  # type: ignore[arg-type]
            catalogue=lambda: replace(get_catalogue(), webhook_secrets={TEAM: (SECRET,)}),
            emit=emit,
            wall_clock=clock,
            draw_random=Random(store.replica_id).random,
            timing=TIMING,
            refresh_targets=_refresh_no_targets,
            load_job_body=_load_no_body,
        )
    )


async def _refresh_no_targets() -> None:
    """The target of this run is one that jobs name themselves."""


async def _load_no_body(_: Job) -> Mapping[str, Any] | None:
    return None


def are_webhooks_pending(state: MemoryState) -> bool:
    records = [record for record in state.team_records.records.values() if record.kind is RecordKind.DELIVERY]
    return bool(state.outbox) or any(decode_delivery(record).is_pending for record in records)


def list_webhook_violations(state: MemoryState, target: ScriptedTarget) -> Iterator[str]:
    """Each job with a webhook has had one, with one id, unless its client deleted the job with its URL."""
    for job_id, stored in state.jobs.items():
        ids, job = target.accepted_ids[job_id], stored.job
        if len(ids) > 1:
            yield f"webhook: {job_id} has the ids {sorted(ids)}"
        if job.has_webhook and job.state.is_terminal and not ids and not job.is_deleted:
            yield f"webhook missing: {job_id}"
        if ids and not (job.has_webhook and job.state.is_terminal):
            yield f"webhook: {job_id} has one before its end, or without asking for it"
