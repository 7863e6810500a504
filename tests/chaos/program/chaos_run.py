"""One chaos run: starts everything, makes trouble while clients order, lets all end, and audits what is left."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.chaos.program.gateway_life import AFTER, KILLS_FILE, REACHED_FILE, read_points
from tests.chaos.program.load_clients import LoadRecord, LoadThread
from tests.chaos.program.load_plan import draw_clients
from tests.chaos.program.phase_clock import PhaseClock
from tests.chaos.program.replica_pool import ReplicaPool
from tests.chaos.program.run_audit import Audit, audit_run
from tests.chaos.program.run_config import WEBHOOK_TARGETS, RunConfig
from tests.chaos.program.run_options import RunOptions, StoreKind
from tests.chaos.program.run_state import RunState, read_invoice, read_state, reconcile
from tests.chaos.program.store_servers import run_store
from tests.chaos.program.troubles import Surroundings, Troubles
from tests.explore.failpoints import list_failpoints
from tests.harness.gateway_process import GatewayProcess
from tests.harness.moderation_server import run_moderation_server
from tests.harness.sandbox_runner import run_sandbox
from tests.harness.webhook_receiver import WebhookReceiver, run_webhook_receiver

STEP_SECONDS, PROGRESS_SECONDS = 0.05, 10.0
# How long all that was begun may take to end, once nothing disturbs it.
CALM_SECONDS = 200.0
# On a slow machine the trouble takes longer, but not for longer than so many times.
MAX_SLOWNESS = 10.0
# Of how many jobs the images are fetched at the end.
MAX_FETCHED_JOBS = 40


class ChaosResult(Struct, frozen=True, kw_only=True):
    """`lines`: of the report, without the last one."""

    audit: Audit
    lines: list[str]
    is_good: bool


class ChaosRun:
    """`say`: prints a line of progress."""

    def __init__(self, options: RunOptions, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._started_at = time.monotonic()
        self._phases = PhaseClock("start")

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started_at

    def run(self) -> ChaosResult:
        """Makes the run. All of its processes have ended when this returns or raises."""
        options = self._options
        gateway_data = options.folder / "replica-1" / "data"
        with (
            run_store(options.store, options.folder, gateway_data) as store,
            run_sandbox() as sandbox,
            run_webhook_receiver() as receiver,
            run_moderation_server() as moderation,
        ):
            config = RunConfig(
                options.folder / "config", sandbox.url, receiver.url, moderation.url, store.wait_replicas
            )
            with _run_pool(ReplicaPool(options, config.folder, store.environ, store.max_replicas)) as pool:
                surroundings = Surroundings(store, config, sandbox, receiver)
                load = LoadThread(draw_clients(options), pool.urls)
                return self._run(pool, load, surroundings)

    def _run(self, pool: ReplicaPool, load: LoadThread, surroundings: Surroundings) -> ChaosResult:
        troubles = Troubles(self._options, pool, surroundings)
        pool.wait_until_listening()
        self._started_at = time.monotonic()
        self._phases.begin("kills")
        troubles.begin()
        load.start()
        self._make_trouble(pool, troubles, load)
        self._say(f"{self._seconds:4.0f} s  calm: the store and the sellers work, gateways are not killed any more")
        self._phases.begin("calm start")
        troubles.end(self._seconds)
        pool.calm_down()
        return self._finish(pool, troubles, load, surroundings)

    def _make_trouble(self, pool: ReplicaPool, troubles: Troubles, load: LoadThread) -> None:
        next_progress_at = PROGRESS_SECONDS
        seconds = self._options.trouble_seconds
        while self._seconds < seconds or not pool.has_enough_kills or not load.has_active_rest:
            if self._seconds > MAX_SLOWNESS * seconds:
                self._say(
                    "the machine is too slow for this run: not all clients could order, or too few kills were made"
                )
                break
            if pool.has_enough_kills:
                self._phases.begin("orders and other troubles after the last kill")
            pool.step(time.monotonic())
            troubles.step(self._seconds)
            if self._seconds >= next_progress_at:
                next_progress_at += PROGRESS_SECONDS
                self._say_progress(pool, troubles, load)
            time.sleep(STEP_SECONDS)

    def _say_progress(self, pool: ReplicaPool, troubles: Troubles, load: LoadThread) -> None:
        counts, freezes = pool.counts, pool.counts.freezes + troubles.counts["store freezes"]
        self._say(
            f"{self._seconds:4.0f} s  clients {load.record.finished_count}, jobs {len(load.record.job_ids)}, "
            f"gateway kills {counts.kills} ({counts.failpoint_kills} at failpoints, {pool.count_failpoints()} new), "
            f"store kills {troubles.store_kills}, freezes {freezes}"
        )

    # --- the end

    def _finish(
        self, pool: ReplicaPool, troubles: Troubles, load: LoadThread, surroundings: Surroundings
    ) -> ChaosResult:
        self._wait_for_ends(pool.replicas[0].gateway, load, surroundings.receiver)
        self._phases.begin("images")
        image_problems = fetch_images(pool.replicas[0].gateway, load.record)
        self._phases.begin("stop")
        pool.stop()
        self._phases.begin("audit")
        image_problems += list_left_images(self._options.folder, load.record)
        state, audit, outcomes = asyncio.run(audit_surroundings(surroundings, load.record))
        audit.other += [*image_problems, *pool.unexpected_exits]
        audit.other += self._list_missing_troubles(pool, troubles)
        if load.error is not None:
            audit.other.append(f"the clients failed: {load.error!r}")
        lines = list(self._describe(pool, troubles, load, state, outcomes))
        return ChaosResult(audit=audit, lines=[*lines, *audit.notes, *audit.list_findings()], is_good=audit.is_clean)

    def _wait_for_ends(self, gateway: GatewayProcess, load: LoadThread, receiver: WebhookReceiver) -> None:
        began_at, next_progress_at = self._seconds, self._seconds + PROGRESS_SECONDS
        while (waited := self._seconds - began_at) < CALM_SECONDS:
            self._phases.begin("waiting for jobs and webhooks" if load.is_done else "waiting for clients")
            unfinished = "clients" if not load.is_done else find_unfinished(gateway, load.record, receiver)
            if not unfinished:
                self._say(f"{self._seconds:4.0f} s  all jobs have ended")
                break
            if self._seconds >= next_progress_at:
                next_progress_at += PROGRESS_SECONDS
                self._say(f"{self._seconds:4.0f} s  still waiting for {unfinished}")
            time.sleep(STEP_SECONDS if waited < 1.0 else 1.0)
        load.stop()

    def _list_missing_troubles(self, pool: ReplicaPool, troubles: Troubles) -> Iterator[str]:
        options = self._options
        if not pool.has_enough_kills:
            yield f"only {pool.counts.kills} gateways were killed"
        if options.store is not StoreKind.SQLITE and troubles.store_kills < options.store_kills:
            yield f"the store was killed only {troubles.store_kills} times"
        if options.is_full:
            yield from list_unkilled_failpoints(options.folder)

    def _describe(
        self, pool: ReplicaPool, troubles: Troubles, load: LoadThread, state: RunState, outcomes: Counter[str]
    ) -> Iterator[str]:
        counts, record = pool.counts, load.record
        yield f"{self._seconds:.0f} s with {len(pool.replicas)} gateways on {self._options.store}"
        yield f"phases: {self._phases.describe()}"
        yield (
            f"gateways: {counts.lives} lives, {counts.kills} kills ({counts.failpoint_kills} at failpoints), "
            f"{counts.drains} drains, {counts.freezes} freezes, {counts.failed_starts} starts that failed, "
            f"{counts.spared_lives} lives that were spared"
        )
        yield "troubles: " + ", ".join(f"{number} {name}" for name, number in sorted(troubles.counts.items()))
        yield (
            f"clients: {record.finished_count}, {record.retry_count} repeated requests, {record.replay_count} replays, "
            f"answers " + ", ".join(f"{status}: {number}" for status, number in sorted(record.answers.items()))
        )
        yield (
            f"jobs: {len(state.jobs)}, of which clients got {len(record.job_ids)}; batches {len(record.batches)}, "
            f"of which {len(record.refused_batches)} were refused"
        )
        yield "ends of jobs: " + ", ".join(f"{end} {number}" for end, number in sorted(state.count_outcomes().items()))
        yield "reconciliation: " + (", ".join(f"{name} {number}" for name, number in outcomes.items()) or "all matched")
        yield describe_failpoints(self._options.folder)
        if not self._options.is_full:
            yield from list_unkilled_failpoints(self._options.folder)


async def audit_surroundings(surroundings: Surroundings, record: LoadRecord) -> tuple[RunState, Audit, Counter[str]]:
    """Reconciles the store with the invoice, and audits both. Returns also what was reconciled."""
    store = await surroundings.store.make_store().open()
    try:
        jobs = (await read_state(store, record.deleted_jobs)).jobs
        invoice = read_invoice(surroundings.sandbox)
        outcomes = await reconcile(store, invoice, jobs)
        state = await read_state(store, record.deleted_jobs)
    finally:
        await store.close()
    return state, audit_run(state, invoice, record, surroundings.receiver), outcomes


def find_unfinished(gateway: GatewayProcess, record: LoadRecord, receiver: WebhookReceiver) -> str:
    """Says what of all replicas has not ended. Returns an empty text if everything has."""
    if open_jobs := gateway.read_metric("igw_open_jobs"):
        return f"{open_jobs:.0f} open jobs"
    with gateway.make_client() as client:
        pending = client.get("/v1/webhooks/deliveries?status=pending&limit=100").json()["data"]
    if pending:
        seconds = min(delivery["next_attempt_at"] for delivery in pending) - time.time()
        return f"{len(pending)} webhooks, the next of which is sent in {seconds:.0f} s"
    return "" if has_all_webhooks(receiver, record) else "webhooks that no replica has taken over"


def has_all_webhooks(receiver: WebhookReceiver, record: LoadRecord) -> bool:
    """Whether each target has a webhook of each job whose end a client saw. A process with a wrong clock that was
    killed while it took over a webhook keeps it from the others for as long as its clock was wrong."""
    accepted = {
        (webhook.path.lstrip("/"), json.loads(webhook.body)["data"]["id"])
        for webhook in receiver.webhooks
        if webhook.status // 100 == 2
    }
    return all((target, job_id) in accepted for job_id in record.ends for target in WEBHOOK_TARGETS)


def fetch_images(gateway: GatewayProcess, record: LoadRecord) -> list[str]:
    """Fetches the images of some completed jobs, as clients do. Returns those that are not there."""
    kept = record.ends.keys() - record.deleted_jobs
    completed = sorted(job_id for job_id in kept if record.ends[job_id] == "completed")[:MAX_FETCHED_JOBS]
    problems = []
    with gateway.make_client() as client:
        for job_id in completed:
            for image in client.get(f"/v1/jobs/{job_id}").json()["images"]:
                response = client.get(image["url"])
                if response.status_code != 200 or not response.content.startswith(b"\x89PNG"):
                    problems.append(f"an image of {job_id} is answered with {response.status_code}")
    return problems


def list_left_images(folder: Path, record: LoadRecord) -> list[str]:
    """Lists the files of jobs whose deletion was confirmed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        f"{job_id} is deleted, and has still {path}"
        for job_id in record.deletions
        for path in files
        if job_id in str(path)
    ]


def list_unkilled_failpoints(folder: Path) -> list[str]:
    """Lists the failpoints of the engine that processes passed, but where none was killed. A process that ended during
    the effect, for another reason, may have been one that kills itself afterwards."""
    killed = {point.place for point in read_points(folder / KILLS_FILE)}
    passed = {point.place for point in read_points(folder / REACHED_FILE) if point.moment == AFTER}
    return [
        f"no gateway was killed at {failpoint}, {adapter}"
        for failpoint, adapter in sorted(passed - killed)
        if failpoint in list_failpoints()
    ]


def describe_failpoints(folder: Path) -> str:
    killed, reached = read_points(folder / KILLS_FILE), read_points(folder / REACHED_FILE)
    names = {point.failpoint for point in reached}
    missing = sorted(list_failpoints() - names)
    return (
        f"failpoints: {len(names & list_failpoints())} of {len(list_failpoints())} of the engine were passed, "
        f"killed at {len({point.place for point in killed})} of {len({point.place for point in reached})} combinations "
        f"with an adapter; "
        f"not passed: {', '.join(missing) or 'none'}"
    )


@contextmanager
def _run_pool(pool: ReplicaPool) -> Iterator[ReplicaPool]:
    try:
        yield pool
    finally:
        pool.kill_all()
