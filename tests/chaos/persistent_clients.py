"""Clients that retry with an idempotency key until they get a response."""

import random
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import httpx

from tests.chaos.chaos_config import PROMPT_LENGTH
from tests.harness.gateway_process import API_KEY

RETRY_INTERVAL_SECONDS = 0.05


class ClientOrder(NamedTuple):
    """One request. With an `image`, as a data URI, it is an edit."""

    key: str
    seller: str
    image: str | None = None


def make_job_body(key: str, seller: str, image: str | None = None) -> dict[str, object]:
    prompt = f"{key} of a lighthouse at dawn ".ljust(PROMPT_LENGTH, ".")
    params: dict[str, object] = {"prompt": prompt, "quality": "low", "policy": seller}
    return params | ({"operation": "edit", "image": image} if image else {})


def post_job(
    client: httpx.Client, key: str, seller: str, wait_seconds: int = 0, image: str | None = None
) -> httpx.Response:
    headers = {"idempotency-key": key, "prefer": f"wait={wait_seconds}"}
    return client.post("/v1/jobs", json=make_job_body(key, seller, image), headers=headers)


class PersistentClients:
    """Concurrent clients of gateways that may crash at any moment. `jobs_by_key` has the job that each key got."""

    def __init__(self, urls: Iterable[str], seed: int) -> None:
        self.jobs_by_key: dict[str, str] = {}
        self.replay_count = 0
        self._urls = list(urls)
        self._stopped = threading.Event()
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable
        self._pool = ThreadPoolExecutor(12)
        self._futures: list[Future[None]] = []

    def start(self, orders: Iterable[ClientOrder]) -> None:
        """Starts a client for each order."""
        self._futures += [self._pool.submit(self._post_until_accepted, order) for order in orders]

    def _post_until_accepted(self, order: ClientOrder) -> None:
        timeout = httpx.Timeout(5.0)
        url = self._random.choice(self._urls)
        with httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {API_KEY}"}, timeout=timeout, trust_env=False
        ) as client:
            while not self._stopped.is_set():
                try:
                    answer = post_job(client, order.key, order.seller, image=order.image)
                except httpx.TransportError:
                    self._stopped.wait(RETRY_INTERVAL_SECONDS)
                    continue
                if answer.status_code in (200, 202):
                    self.jobs_by_key[order.key] = answer.json()["id"]
                    self.replay_count += "idempotent-replayed" in answer.headers
                    return
                assert answer.status_code == 503, answer.text
                self._stopped.wait(RETRY_INTERVAL_SECONDS)

    def wait_until_done(self) -> None:
        """Waits until every client has a response."""
        for future in self._futures:
            future.result(60)

    def close(self) -> None:
        self._stopped.set()
        self._pool.shutdown()
