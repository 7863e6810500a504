"""Delivery of the vendors' callbacks, with retries."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a vendor retries: after each of `delays_seconds`, on 5xx and no response, or on anything but 2xx."""

    delays_seconds: tuple[float, ...]
    retries_any_failure: bool
    timeout_seconds: float = 10.0

    def should_retry(self, status: int | None) -> bool:
        if status is None:
            return True
        return not 200 <= status < 300 if self.retries_any_failure else status >= 500


@dataclass(slots=True)
class DeliveryAttempt:
    started_at: float
    status: int | None
    duration_seconds: float
    error: str | None


@dataclass(slots=True)
class CallbackDelivery:
    """One callback: its final bytes, and every attempt to deliver them."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    retry_policy: RetryPolicy
    created_at: float = field(default_factory=time.time)
    attempts: list[DeliveryAttempt] = field(default_factory=list)
    first_attempt_done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    is_finished: bool = False

    @property
    def is_accepted(self) -> bool:
        return any(attempt.status is not None and 200 <= attempt.status < 300 for attempt in self.attempts)


class CallbackSender:
    """Delivers callbacks in the background. `aclose` drops undelivered ones."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False)

    def start_task(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def deliver(self, delivery: CallbackDelivery, scale_delay: Callable[[float], float] = float) -> None:
        """Makes all attempts, one after another. `scale_delay` shortens the vendor's delays in tests."""
        for delay in (*delivery.retry_policy.delays_seconds, None):
            status = await self._attempt_delivery(delivery)
            if delay is None or not delivery.retry_policy.should_retry(status):
                break
            await asyncio.sleep(scale_delay(delay))
        delivery.is_finished = True

    async def _attempt_delivery(self, delivery: CallbackDelivery) -> int | None:
        started_at = time.time()
        status, error = None, None
        try:
            response = await self._client.post(
                delivery.url,
                content=delivery.body,
                headers={"content-type": "application/json", **delivery.headers},
                timeout=delivery.retry_policy.timeout_seconds,
            )
            status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exception:
            error = type(exception).__name__
        delivery.attempts.append(DeliveryAttempt(started_at, status, time.time() - started_at, error))
        delivery.first_attempt_done.set()
        return status

    def cancel_all(self) -> None:
        """Cancels all deliveries, so that no callback from before a reset arrives after it."""
        for task in tuple(self._tasks):
            task.cancel()

    async def aclose(self) -> None:
        self.cancel_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
