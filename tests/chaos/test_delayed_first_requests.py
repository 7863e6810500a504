"""An SDK's retry overtakes its delayed first request: both get one job, bought once."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest

from tests.chaos import store_audit
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.redis.faulty_proxy import FaultyProxy
from tests.store.redis_servers import RedisServer

CLIENT_COUNT = 10
BODY = {"quality": "low", "policy": "runapi"}
SDK_TIMEOUT_SECONDS = 2.0


class RetrySplittingTransport(httpx.HTTPTransport):
    """Sends first requests to one replica and retries to the other."""

    def __init__(self, first: GatewayProcess, second: GatewayProcess) -> None:
        super().__init__()
        self._ports = first.port, second.port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_repeated = int(request.headers["x-stainless-retry-count"]) > 0
        request.url = request.url.copy_with(port=self._ports[is_repeated])
        return super().handle_request(request)


@contextmanager
def generate_with_retries(first: GatewayProcess, second: GatewayProcess) -> Iterator[list[str]]:
    """Requests images with OpenAI's SDK, half of them with one prompt. Yields the ids of the delivered jobs."""
    job_ids: list[str] = []

    def generate_image(number: int) -> str:
        http = httpx.Client(transport=RetrySplittingTransport(first, second), trust_env=False)
        with openai.OpenAI(
            base_url=f"{first.url}/v1", api_key=API_KEY, http_client=http, timeout=SDK_TIMEOUT_SECONDS, max_retries=3
        ) as sdk:
            prompt = f"delayed {number if number % 2 else 'all'}"
            answer = sdk.images.with_raw_response.generate(prompt=prompt, extra_body=BODY)
            assert answer.parse().data
            return str(answer.headers["x-igw-job-id"])

    with ThreadPoolExecutor(CLIENT_COUNT) as pool:
        futures = [pool.submit(generate_image, number) for number in range(CLIENT_COUNT)]
        job_ids += (future.result() for future in futures)
        yield job_ids


def assert_ordered_once(
    gateway: GatewayProcess, redis_setup: StoreSetup, sandbox: RunningSandbox, delivered_jobs: list[str]
) -> None:
    assert len(set(delivered_jobs)) == CLIENT_COUNT, "each client got its own image"
    gateway.wait_until_idle()
    assert gateway.stays_idle(LEASE_SECONDS + 1.5)
    assert len(sandbox.list_charges()) == CLIENT_COUNT
    snapshot = store_audit.read_snapshot(redis_setup.make_store)
    assert snapshot.jobs.keys() == set(delivered_jobs)
    assert (snapshot.violation_count, snapshot.list_unsettled_jobs()) == (0, [])


@pytest.mark.thorough
def test_first_request_in_a_paused_replica_is_not_ordered_after_its_retry(
    redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    with ExitStack() as running:
        first, second = (
            running.enter_context(run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ))
            for name in ("1", "2")
        )
        first.send_signal(signal.SIGSTOP)
        try:
            with generate_with_retries(first, second) as delivered:
                first.send_signal(signal.SIGCONT)
                assert_ordered_once(second, redis_setup, sandbox, delivered)
                assert first.stays_idle(1.0)
        finally:
            os.kill(first.pid, signal.SIGCONT)


@pytest.fixture
def stallable_redis(redis_server: RedisServer) -> Iterator[FaultyProxy]:
    """A proxy to Redis that can stall the connection."""
    loop, started, stopped = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    proxy = FaultyProxy(redis_server.port)

    async def run_until_stopped() -> None:
        async with proxy:
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run_until_stopped(),))
    thread.start()
    started.wait()
    proxy.stall = lambda: loop.call_soon_threadsafe(proxy.is_flowing.clear)  # type: ignore[attr-defined]
    proxy.resume = lambda: loop.call_soon_threadsafe(proxy.is_flowing.set)  # type: ignore[attr-defined]
    yield proxy
    loop.call_soon_threadsafe(proxy.is_flowing.set)
    loop.call_soon_threadsafe(stopped.set)
    thread.join()
    loop.close()


@pytest.mark.thorough
def test_first_request_delayed_at_the_store_returns_the_job_of_its_retry(
    redis_setup: StoreSetup, sandbox: RunningSandbox, stallable_redis: FaultyProxy
) -> None:
    slow = {**redis_setup.environ, "REDIS_URL": stallable_redis.url}
    with ExitStack() as running:
        first = running.enter_context(run_replica(redis_setup.folder / "1", redis_setup.config, slow))
        second = running.enter_context(run_replica(redis_setup.folder / "2", redis_setup.config, redis_setup.environ))
        with first.make_client() as client:
            answer = client.post("/v1/jobs", json={**BODY, "prompt": "before"}, headers={"prefer": "wait=30"})
        earlier_job_id = answer.json()["id"]
        stallable_redis.stall()  # type: ignore[attr-defined]
        with generate_with_retries(first, second) as delivered:
            stallable_redis.resume()  # type: ignore[attr-defined]
            wait_until(lambda: first.read_metric("igw_jobs_in_flight") == 0, "no job is in flight")
            assert first.stays_idle(LEASE_SECONDS + 1.5)
            assert len(sandbox.list_charges()) == CLIENT_COUNT + 1
            assert set(delivered) | {earlier_job_id} == store_audit.read_snapshot(redis_setup.make_store).jobs.keys()
