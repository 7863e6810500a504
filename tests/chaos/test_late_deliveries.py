"""A paused replica resumes after another one has reclaimed its job, and delivers its own order late."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos import store_audit
from tests.chaos.chaos_config import replace_text
from tests.chaos.job_batches import wait_for_jobs
from tests.chaos.persistent_clients import post_job
from tests.chaos.process_pauses import pause_gateway
from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.signed_callbacks import sign_runapi_callback
from tests.harness.wait import wait_until

REORDER_POLICY = "  reorder: {rank: listed, sellers: [openai, runflow-run], failover: {on_unknown: reorder}}\n"


@pytest.fixture
def replicas(redis_setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two replicas with a policy that reorders after an unknown outcome."""
    for file_name, old, new in (
        ("policies.yaml", "default: any", f"{REORDER_POLICY}default: any"),
        ("teams.yaml", "policies: [any,", "policies: [reorder, any,"),
    ):
        replace_text(redis_setup.config / file_name, old, new)
    with (
        run_replica(redis_setup.folder / "1", redis_setup.config, redis_setup.environ) as first,
        run_replica(redis_setup.folder / "2", redis_setup.config, redis_setup.environ) as second,
    ):
        yield first, second


def start_ordered_job(gateway: GatewayProcess, sandbox: RunningSandbox) -> str:
    """Starts a job and waits for its first order. Only this replica will receive the response."""
    with gateway.make_client() as client:
        job: str = post_job(client, "key", "reorder").json()["id"]
    wait_until(lambda: sandbox.list_requests("openai", "submit"), "the order was sent")
    return job


@contextmanager
def pause_after_order(gateway: GatewayProcess, sandbox: RunningSandbox) -> Iterator[str]:
    """Starts a job whose order is held, and pauses the replica, which alone can receive the response."""
    sandbox.hold_orders(vendor="openai")
    job = start_ordered_job(gateway, sandbox)
    with pause_gateway(gateway):
        yield job


def send_callback(gateway: GatewayProcess, sandbox: RunningSandbox) -> int:
    """Sends RunAPI's callback about its last order to a replica."""
    (order,) = [body for entry in sandbox.list_requests("runapi", "submit") if (body := entry["body"])]
    path = urlsplit(json.loads(order)["callback_url"]).path
    body = json.dumps({"id": sandbox.list_charges("runapi")[0]["id"], "status": "completed"}).encode()
    headers = sign_runapi_callback(body)
    with gateway.make_client() as client:
        return client.post(path, content=body, headers=headers).status_code


@pytest.fixture
def callback_replicas(redis_setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two replicas that find a lost order of RunAPI by its callback only."""
    replace_text(redis_setup.config / "accounts.yaml", "replay: trusted", "replay: untrusted")
    # Sellers cannot call back: the test sends the callbacks.
    environ = {"IGW_PUBLIC_URL": "http://127.0.0.1:1", **redis_setup.environ}
    with (
        run_replica(redis_setup.folder / "1", redis_setup.config, environ) as first,
        run_replica(redis_setup.folder / "2", redis_setup.config, environ) as second,
    ):
        yield first, second


@pytest.mark.thorough
@pytest.mark.parametrize("has_noticed", [True, False], ids=["lost lease noticed", "lost lease not noticed yet"])
def test_callback_lost_with_the_lease_is_processed_on_redelivery(
    callback_replicas: tuple[GatewayProcess, GatewayProcess],
    redis_setup: StoreSetup,
    sandbox: RunningSandbox,
    has_noticed: bool,
) -> None:
    """Only this callback names the order. The seller cannot confirm it until the replica has lost the job."""
    first, second = callback_replicas
    sandbox.inject_fault("no_callback", vendor="runapi")
    sandbox.inject_fault("reset_after", vendor="runapi", times=1)
    sandbox.inject_fault("status", vendor="runapi", route="poll", status=500)
    with first.make_client() as client:
        job: str = post_job(client, "key", "runapi").json()["id"]
    wait_until(lambda: sandbox.list_charges("runapi"), "the order was sent")
    assert send_callback(first, sandbox) == 204
    wait_until(lambda: sandbox.list_requests("runapi", "poll"), "the replica polls the order")
    with pause_gateway(first):
        wait_until(lambda: second.read_metric("igw_jobs_reclaimed_total"), "the other replica has reclaimed the job")
        if not has_noticed:
            sandbox.call_control_route("DELETE", "/faults")
    if has_noticed:
        wait_until(first.is_idle, "the replica has dropped the job")
        sandbox.call_control_route("DELETE", "/faults")
    wait_until(lambda: send_callback(first, sandbox) == 204, "the redelivery is accepted")
    (final_job,) = wait_for_jobs(second, [job])
    assert final_job["status"] == "completed", final_job
    wait_until(lambda: are_idle(first, second), "all jobs are settled")
    store_audit.assert_matches_invoice(store_audit.read_snapshot(redis_setup.make_store), sandbox)
    assert len(sandbox.list_charges()) == 1


def are_idle(first: GatewayProcess, second: GatewayProcess) -> bool:
    return first.is_idle() and second.is_idle()


def fetch_images(gateway: GatewayProcess, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the job's image entries, with hash and size of what their URLs return."""
    with gateway.make_client() as client:
        return [image | {"fetched": _hash_content(client.get(image["url"]))} for image in job["images"]]


def _hash_content(answer: httpx.Response) -> tuple[str, int]:
    return sha256(answer.raise_for_status().content).hexdigest(), len(answer.content)


def assert_delivers_what_it_lists(
    gateway: GatewayProcess, job_id: str, redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    (job,) = wait_for_jobs(gateway, [job_id])
    assert job["status"] == "completed", job
    (image,) = fetch_images(gateway, job)
    assert image["seller"] == "runflow-run"
    assert image["fetched"] == (image["sha256"], image["bytes"])
    assert len(sandbox.list_charges()) == 2
    snapshot = store_audit.audit_store(redis_setup.make_store, sandbox, [job_id])
    late_attempt, delivering_attempt = snapshot.jobs[job_id].attempts
    assert (
        late_attempt.delivered_count,
        late_attempt.suspected_amount,
        late_attempt.orphaned_amount > 0,
        delivering_attempt.delivered_count,
    ) == (0, 0, True, 1)
    assert asyncio.run(_read_image_document_names(redis_setup, job_id)) == {"image.2.0"}


async def _read_image_document_names(redis_setup: StoreSetup, job_id: str) -> set[str]:
    """Returns the names of the job's stored image documents, of both attempts."""
    store = await redis_setup.make_store().open()
    try:
        return set(await store.load_documents(job_id, *(f"image.{attempt}.0" for attempt in (1, 2))))
    finally:
        await store.close()


@pytest.mark.thorough
def test_result_of_the_previous_worker_within_a_lease_is_not_reordered(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """The paused replica alone receives the order's response."""
    first, second = replicas
    with pause_after_order(first, sandbox) as job:
        sandbox.release_orders()
        wait_until(lambda: second.read_metric("igw_jobs_reclaimed_total"), "the other replica has reclaimed the job")
    (final_job,) = wait_for_jobs(second, [job])
    assert (final_job["status"], len(final_job["attempts"])) == ("completed", 1), final_job
    wait_until(lambda: are_idle(first, second), "all jobs are settled")
    store_audit.audit_store(redis_setup.make_store, sandbox, [job])
    assert len(sandbox.list_charges()) == 1


@pytest.mark.thorough
def test_late_image_does_not_replace_the_delivered_one(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    with pause_after_order(first, sandbox) as job:
        wait_for_jobs(second, [job])
        sandbox.release_orders()
    wait_until(lambda: are_idle(first, second), "all jobs are settled")
    assert_delivers_what_it_lists(second, job, redis_setup, sandbox)
    wait_until(lambda: "late images received" in first.read_log(), "the late image is logged")
    assert first.read_metric("igw_internal_errors_total") == 0, "a late delivery is not an internal error"


@pytest.mark.thorough
def test_delivered_image_is_listed_instead_of_an_earlier_late_one(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    sandbox.hold_orders(vendor="runflow")
    with pause_after_order(first, sandbox) as job:
        wait_until(lambda: sandbox.list_requests("runflow"), "the other replica has ordered from the next seller")
        sandbox.release_orders(vendor="openai")
    wait_until(lambda: "late images received" in first.read_log(), "the late image is received")
    sandbox.release_orders(vendor="runflow")
    assert_delivers_what_it_lists(second, job, redis_setup, sandbox)
