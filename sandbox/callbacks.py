"""Vendors' callbacks: signed, sent until accepted or given up, and remembered."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a vendor tries again: after each of `delays`, on 5xx and silence, or on anything but 2xx."""

    delays: tuple[float, ...]
    on_any_failure: bool
    timeout: float = 10.0

    def again(self, status: int | None) -> bool:
        if status is None:
            return True
        return not 200 <= status < 300 if self.on_any_failure else status >= 500


@dataclass(slots=True)
class Attempt:
    at: float
    status: int | None
    took: float
    error: str | None


@dataclass(slots=True)
class Delivery:
    """One callback: the frozen bytes, and every attempt to hand them over."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    policy: RetryPolicy
    created: float = field(default_factory=time.time)
    attempts: list[Attempt] = field(default_factory=list)
    tried: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    over: bool = False

    @property
    def accepted(self) -> bool:
        return any(a.status is not None and 200 <= a.status < 300 for a in self.attempts)


class Callbacks:
    """Sends in the background; `aclose` drops what has not been delivered, as a vendor's restart would not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def deliver(self, delivery: Delivery, pause: Callable[[float], float] = float) -> None:
        """All attempts, one after another. `pause` lets a test shorten the vendor's waits."""
        for delay in (*delivery.policy.delays, None):
            status = await self._try(delivery)
            if delay is None or not delivery.policy.again(status):
                break
            await asyncio.sleep(pause(delay))
        delivery.over = True

    async def _try(self, delivery: Delivery) -> int | None:
        began = time.time()
        status, error = None, None
        try:
            answer = await self._client.post(
                delivery.url,
                content=delivery.body,
                headers={"content-type": "application/json", **delivery.headers},
                timeout=delivery.policy.timeout,
            )
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as failure:
            error = type(failure).__name__
        delivery.attempts.append(Attempt(began, status, time.time() - began, error))
        delivery.tried.set()
        return status

    def drop(self) -> None:
        """Forgets what is under way, so that nothing of before a reset is heard after it."""
        for task in tuple(self._tasks):
            task.cancel()

    async def aclose(self) -> None:
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
