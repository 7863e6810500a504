"""kill -9 in the middle of a batch: no line is lost, and none is bought twice."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import openai
import pytest
from openai.types import Batch

from tests.chaos import store_audit
from tests.chaos.chaos_config import PROMPT_LENGTH
from tests.chaos.process_pauses import pause_gateway
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.batch_client import (
    count_results,
    create_batch,
    make_line,
    make_sdk_client,
    read_results,
    wait_for_end,
)
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

LINE_COUNT = 200
# The numbers of orders after which the gateway is killed.
KILLS = ((90,), pytest.param((30, 60, 90, 120, 150), marks=pytest.mark.thorough))


def create_large_batch(client: openai.OpenAI) -> Batch:
    """Creates a batch at the seller where an order can be sent again after a crash, so that every line succeeds."""
    lines = (
        make_line(number, prompt=f"line {number}".ljust(PROMPT_LENGTH), provider={"only": ["runapi"]})
        for number in range(LINE_COUNT)
    )
    return create_batch(client, lines)


def check_results(client: openai.OpenAI, batch: Batch, sandbox: RunningSandbox) -> None:
    ended = wait_for_end(client, batch)
    assert (ended.status, count_results(ended)) == ("completed", (LINE_COUNT, LINE_COUNT, 0)), ended
    results = read_results(client, ended.output_file_id)
    assert results.keys() == {f"request-{number}" for number in range(LINE_COUNT)}
    assert len({line["response"]["request_id"] for line in results.values()}) == LINE_COUNT
    assert len(sandbox.list_charges()) == LINE_COUNT


@contextmanager
def run_gateway(setup: StoreSetup) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(setup.folder, setup.config, setup.environ)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.kill_if_running()


@pytest.mark.parametrize("kills", KILLS, ids=len)
def test_killed_gateway_resumes_its_batch(
    store_setup: StoreSetup, sandbox: RunningSandbox, kills: tuple[int, ...]
) -> None:
    sandbox.set_latency(0.3, 0.1)
    with run_gateway(store_setup) as gateway, make_sdk_client(gateway.url, API_KEY) as client:
        batch = create_large_batch(client)
        for order_count in kills:
            wait_until(lambda count=order_count: count_orders(sandbox) >= count, f"{order_count} lines are ordered")  # type: ignore[misc]
            gateway.kill()
            gateway.start()
        check_results(client, batch, sandbox)
        wait_until(gateway.is_idle, "all jobs are settled")
        gateway.stop()
    store_audit.audit_store(store_setup.make_store, sandbox, list_job_ids(store_setup))


def count_orders(sandbox: RunningSandbox) -> int:
    return len(sandbox.list_requests("runapi", "submit"))


def list_job_ids(setup: StoreSetup) -> list[str]:
    return list(store_audit.read_snapshot(setup.make_store).jobs)


def test_lines_whose_jobs_were_deleted_meanwhile_are_not_ordered_again(
    store_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """The gateway stands still for longer than jobs are kept, and so the results of finished lines are gone."""
    sandbox.hold_orders()
    with run_gateway(store_setup) as gateway, make_sdk_client(gateway.url, API_KEY) as client:
        lines = [make_line(number, provider={"only": ["runapi"]}) for number in range(3)]
        batch = create_batch(client, lines)
        wait_until(lambda: count_orders(sandbox) == len(lines), "all lines are ordered")
        gateway.kill()
        asyncio.run(delete_jobs(store_setup, list_job_ids(store_setup)))
        sandbox.release_orders()
        gateway.start()
        ended = wait_for_end(client, batch)
        assert count_results(ended) == (len(lines), 0, len(lines))
        errors = read_results(client, ended.error_file_id)
    assert {line["error"]["code"] for line in errors.values()} == {"job_deleted"}, errors
    assert count_orders(sandbox) == len(lines)


async def delete_jobs(setup: StoreSetup, job_ids: list[str]) -> None:
    store = await setup.make_store().open()
    for job_id in job_ids:
        await store.delete_job(job_id)
    await store.close()


@pytest.mark.thorough
def test_other_replica_continues_the_batch_of_a_killed_one(redis_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    sandbox.set_latency(0.3, 0.1)
    with ExitStack() as running:
        first, second = (
            running.enter_context(run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ))
            for name in ("1", "2")
        )
        client = running.enter_context(make_sdk_client(first.url, API_KEY))
        other_client = running.enter_context(make_sdk_client(second.url, API_KEY))
        batch = create_large_batch(client)
        wait_until(lambda: count_orders(sandbox) >= LINE_COUNT // 4, "a quarter of the lines is ordered")
        # Either may have the lease, and both have jobs: the first one, since it accepted the batch, or after a claim.
        first.kill()
        check_results(other_client, batch, sandbox)


@pytest.mark.thorough
def test_paused_replica_adds_nothing_to_a_batch_that_another_one_claimed(
    redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    sandbox.set_latency(1.0, 0.3)
    with ExitStack() as running:
        replicas = [
            running.enter_context(run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ))
            for name in ("1", "2")
        ]
        clients = [running.enter_context(make_sdk_client(replica.url, API_KEY)) for replica in replicas]
        batch = create_large_batch(clients[0])
        for replica in (*replicas, *replicas):
            with pause_gateway(replica):
                time.sleep(LEASE_SECONDS + 1.0)
        check_results(clients[1], batch, sandbox)
