"""kill -9 between the commit of a job and its webhook, and around each attempt: every webhook arrives, with one id."""

import asyncio
from itertools import cycle

from msgspec.structs import replace

from gateway.store.base import ClaimedDelivery, Store
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind
from gateway.webhooks.webhook_records import DeliveryStatus, WebhookRecord, decode_delivery, make_delivery_id
from tests.chaos.chaos_config import replace_text
from tests.chaos.store_setups import StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.harness.webhook_crashes import make_webhook_crash_hook
from tests.harness.webhook_receiver import WEBHOOK_SECRET, WebhookReceiver, run_webhook_receiver
from tests.harness.webhook_verifier import verify_webhook

JOB_COUNT, MIN_CRASHES = 10, 3
# At which step each of the processes crashes, in turn. A webhook takes three steps.
CRASH_STEPS = (5, 8, 6, 7)
TEAM = "chaos"
NEVER_SECONDS = 3_600.0
# A gateway that sends no webhooks, and one that sends them at once.
SILENT = ChildSpec(change_timing(CHAOS_TIMINGS, webhooks={"interval_seconds": NEVER_SECONDS}))
SENDING = ChildSpec(change_timing(CHAOS_TIMINGS, webhooks={"interval_seconds": 0.3, "lease_seconds": 2.0}))


def test_webhooks_survive_kills_between_commit_and_delivery(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    with run_webhook_receiver() as receiver:
        add_target(store_setup, receiver)
        gateway = GatewayProcess(store_setup.folder, store_setup.config, make_environ(store_setup), child=SILENT)
        with gateway:
            gateway.start()
            job_ids = order_jobs(gateway)
            gateway.kill()
            assert receiver.webhooks == []
            crashes = run_until_delivered(gateway, receiver, job_ids)
            gateway.child = SENDING
            gateway.start()
            wait_until(lambda: are_all_delivered(gateway), "all deliveries are recorded")
            gateway.stop()
    records = asyncio.run(read_records(store_setup.make_store()))
    accepted = receiver.count_accepted()
    assert accepted.keys() == job_ids
    assert {webhook.id for webhook in receiver.webhooks} == {record.id for record in records}
    assert len(records) == JOB_COUNT
    assert {record.status for record in records} == {DeliveryStatus.DELIVERED}
    print(f"{crashes} crashes, {accepted.total() - JOB_COUNT} duplicates")
    assert crashes >= MIN_CRASHES
    assert accepted.total() - JOB_COUNT <= crashes
    for webhook in receiver.webhooks:
        verify_webhook(webhook)


def add_target(setup: StoreSetup, receiver: WebhookReceiver) -> None:
    webhooks = (
        f'webhooks: {{secrets: ["env:IGW_WEBHOOKS"], targets: {{all: {{url: "{receiver.url}/all", private: true}}}}}}'
    )
    replace_text(setup.config / "teams.yaml", f"  {TEAM}: {{", f"  {TEAM}: {{{webhooks}, ")


def make_environ(setup: StoreSetup) -> dict[str, str]:
    return {**setup.environ, "IGW_WEBHOOKS": WEBHOOK_SECRET}


def order_jobs(gateway: GatewayProcess) -> set[str]:
    """Orders an image in each job, and waits for the ends of all."""
    with gateway.make_client() as client:
        ids = {
            client.post("/v1/jobs", json={"prompt": f"image {number}", "policy": "runflow-runs"}).json()["id"]
            for number in range(JOB_COUNT)
        }
        for job_id in ids:
            assert client.get(f"/v1/jobs/{job_id}?wait=60").json()["status"] == "completed"
    return ids


def run_until_delivered(gateway: GatewayProcess, receiver: WebhookReceiver, job_ids: set[str]) -> int:
    """Starts the gateway after each crash until every job has had a webhook. Returns the number of crashes."""
    crashes, steps = 0, cycle(CRASH_STEPS)
    while receiver.count_accepted().keys() != job_ids:
        gateway.child = replace(SENDING, hooks=(make_webhook_crash_hook(next(steps)),))
        gateway.launch()
        wait_until(
            lambda: gateway.has_exited() or receiver.count_accepted().keys() == job_ids,
            "the gateway crashes, or all webhooks have arrived",
        )
        crashes += gateway.has_exited()
        gateway.kill_if_running()
    return crashes


def are_all_delivered(gateway: GatewayProcess) -> bool:
    with gateway.make_client() as client:
        page = client.get("/v1/webhooks/deliveries?limit=100").json()["data"]
    return len(page) == JOB_COUNT and all(entry["status"] == "delivered" for entry in page)


async def read_records(store: Store) -> list[WebhookRecord]:
    """Reads the records. An event may remain in the outbox until the lease of a process ends that crashed after it had
    made the event's record."""
    await store.open()
    try:
        outbox: tuple[ClaimedDelivery, ...] = await store.claim_deliveries()
        page = await store.team_records.list_records(RecordKind.DELIVERY, TEAM, MAX_PAGE_RECORDS)
        records = [decode_delivery(record) for record in page]
        assert {make_delivery_id(claimed.delivery.id, "all") for claimed in outbox} <= {record.id for record in records}
        return records
    finally:
        await store.close()
