"""An SDK's retry overtakes its first request, which stands still somewhere: one job, bought once, for who waits."""

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

from tests.chaos import books
from tests.chaos.gateways import KEY, Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.store.redis.meddler import Meddler
from tests.store.servers import Server
from tests.vendors import Vendors

ASKED = 10
BODY = {"quality": "low", "policy": "runapi"}
SDK_SECONDS = 2.0


class Balancer(httpx.HTTPTransport):
    """Sends first requests to one replica and repetitions to the other."""

    def __init__(self, first: Gateway, second: Gateway) -> None:
        super().__init__()
        self._ports = first.port, second.port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_repeated = int(request.headers["x-stainless-retry-count"]) > 0
        request.url = request.url.copy_with(port=self._ports[is_repeated])
        return super().handle_request(request)


@contextmanager
def pictures(one: Gateway, two: Gateway) -> Iterator[list[str]]:
    """The jobs that were delivered to OpenAI's SDK, some of them for one and the same prompt."""
    found: list[str] = []

    def generate(number: int) -> str:
        http = httpx.Client(transport=Balancer(one, two), trust_env=False)
        with openai.OpenAI(
            base_url=f"{one.url}/v1", api_key=KEY, http_client=http, timeout=SDK_SECONDS, max_retries=3
        ) as sdk:
            prompt = f"overtaken {number if number % 2 else 'by all'}"
            answer = sdk.images.with_raw_response.generate(prompt=prompt, extra_body=BODY)
            assert answer.parse().data
            return str(answer.headers["x-igw-job-id"])

    with ThreadPoolExecutor(ASKED) as pool:
        asked = [pool.submit(generate, number) for number in range(ASKED)]
        found += (one.result() for one in asked)
        yield found


def assert_bought_once(at: Gateway, shared: Stored, sandbox: Vendors, delivered: list[str]) -> None:
    assert len(set(delivered)) == ASKED, "each client got a picture of its own"
    assert at.is_idle_for(LEASE + 1.5)
    assert len(sandbox.charges()) == ASKED
    saved = books.read(shared.make)
    assert saved.jobs.keys() == set(delivered)
    assert (saved.violations, saved.unsettled()) == (0, [])


def test_first_request_in_a_frozen_replica_is_not_ordered_when_it_wakes(shared: Stored, sandbox: Vendors) -> None:
    with ExitStack() as running:
        one, two = (
            running.enter_context(gateway(shared.folder / name, shared.config, shared.environ)) for name in ("1", "2")
        )
        one.signal(signal.SIGSTOP)
        try:
            with pictures(one, two) as delivered:
                one.signal(signal.SIGCONT)
                assert_bought_once(two, shared, sandbox, delivered)
                assert one.is_idle_for(1.0)
        finally:
            os.kill(one.pid, signal.SIGCONT)


@pytest.fixture
def held_up(redis_server: Server) -> Iterator[Meddler]:
    """A way to Redis that can be made to stand still."""
    loop, started, over = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    meddler = Meddler(redis_server.port)

    async def stand() -> None:
        async with meddler:
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(stand(),))
    thread.start()
    started.wait()
    meddler.hold = lambda: loop.call_soon_threadsafe(meddler.flowing.clear)  # type: ignore[attr-defined]
    meddler.let_go = lambda: loop.call_soon_threadsafe(meddler.flowing.set)  # type: ignore[attr-defined]
    yield meddler
    loop.call_soon_threadsafe(meddler.flowing.set)
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def test_first_request_that_comes_late_to_the_store_takes_the_job_of_its_retry(
    shared: Stored, sandbox: Vendors, held_up: Meddler
) -> None:
    slow = {**shared.environ, "REDIS_URL": held_up.url}
    with ExitStack() as running:
        one = running.enter_context(gateway(shared.folder / "1", shared.config, slow))
        two = running.enter_context(gateway(shared.folder / "2", shared.config, shared.environ))
        with one.client() as client:
            answer = client.post("/v1/jobs", json={**BODY, "prompt": "before"}, headers={"prefer": "wait=30"})
        earlier = answer.json()["id"]
        held_up.hold()  # type: ignore[attr-defined]
        with pictures(one, two) as delivered:
            held_up.let_go()  # type: ignore[attr-defined]
            until(lambda: one.metric("igw_jobs_in_flight") == 0, "nothing is left")
            assert one.is_idle_for(LEASE + 1.5)
            assert len(sandbox.charges()) == ASKED + 1
            assert set(delivered) | {earlier} == books.read(shared.make).jobs.keys()
