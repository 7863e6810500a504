"""Teams' clients: each asks until it has an answer, as the idempotency key allows."""

import random
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import httpx

from tests.chaos.configs import PROMPT_LENGTH
from tests.chaos.gateways import KEY

PAUSE = 0.05


class Order(NamedTuple):
    """With an `image`, as a data URI, it is an edit."""

    key: str
    seller: str
    image: str | None = None


def body(key: str, seller: str, image: str | None = None) -> dict[str, object]:
    prompt = f"{key} of a lighthouse at dawn ".ljust(PROMPT_LENGTH, ".")
    wishes: dict[str, object] = {"prompt": prompt, "quality": "low", "policy": seller}
    return wishes | ({"operation": "edit", "image": image} if image else {})


def post(client: httpx.Client, key: str, seller: str, wait: int = 0, image: str | None = None) -> httpx.Response:
    headers = {"idempotency-key": key, "prefer": f"wait={wait}"}
    return client.post("/v1/jobs", json=body(key, seller, image), headers=headers)


class Persistent:
    """Some clients at once, whose gateway may be gone at any moment. `acknowledged`: by key, the job they were told."""

    def __init__(self, urls: Iterable[str], orders: Iterable[Order], seconds: float, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.replays = 0
        self._urls = list(urls)
        self._over = threading.Event()
        self._dice = random.Random(seed)  # noqa: S311 - it must be repeatable
        self._pool = ThreadPoolExecutor(12)
        begins = time.monotonic()
        self._posts: list[Future[None]] = [
            self._pool.submit(self._order, order, begins + self._dice.uniform(0, seconds)) for order in orders
        ]

    def _order(self, order: Order, at: float) -> None:
        self._over.wait(max(0.0, at - time.monotonic()))
        limits = httpx.Timeout(5.0)
        url = self._dice.choice(self._urls)
        with httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=limits, trust_env=False
        ) as client:
            while not self._over.is_set():
                try:
                    answer = post(client, order.key, order.seller, image=order.image)
                except httpx.TransportError:
                    self._over.wait(PAUSE)
                    continue
                if answer.status_code in (200, 202):
                    self.acknowledged[order.key] = answer.json()["id"]
                    self.replays += "idempotent-replayed" in answer.headers
                    return
                assert answer.status_code == 503, answer.text
                self._over.wait(PAUSE)

    def finished(self) -> None:
        """When every one of them has an answer."""
        for one in self._posts:
            one.result(60)

    def close(self) -> None:
        self._over.set()
        self._pool.shutdown()
