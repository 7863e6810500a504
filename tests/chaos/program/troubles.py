"""The troubles of a chaos run besides the kills of gateways: drawn from the seed, and made when they are due."""

import heapq
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from msgspec import Struct

from tests.chaos.program.replica_pool import ReplicaPool
from tests.chaos.program.run_config import LEASE_SECONDS, RunConfig
from tests.chaos.program.run_options import RunOptions
from tests.chaos.program.store_servers import StoreServer
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.webhook_receiver import WebhookReceiver

# How often, per second of trouble, besides the kills of the store.
STORE_FREEZES, REPLICA_FREEZES, CONFIG_EDITS, TARGET_OUTAGES, IGNORED_KEYS = 1 / 30, 1 / 12, 1 / 20, 1 / 25, 1 / 10
# How often a server of the store that must wait for its return asks again.
RETURN_INTERVAL_SECONDS = 0.25
# The share of requests to sellers, and of their orders, with which something goes wrong.
SELLER_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "reset_before", "probability": 0.03},
    {"kind": "reset_after", "probability": 0.05},
    {"kind": "truncate", "probability": 0.02},
    {"kind": "hang", "probability": 0.006, "seconds": 30.0, "accepted": True},
    {"kind": "status", "probability": 0.02, "status": 500, "accepted": True},
    {"kind": "html", "probability": 0.01},
    {"kind": "refuse", "probability": 0.02, "status": 503},
    {"kind": "slow", "probability": 0.04, "seconds": 1.5},
    {"kind": "fail", "probability": 0.03},
    {"kind": "partial", "probability": 0.01},
    {"kind": "empty_outputs", "probability": 0.01},
    {"kind": "expired_url", "probability": 0.01},
    {"kind": "refuse_content", "probability": 0.01},
    {"kind": "no_callback", "probability": 0.3},
    {"kind": "early_callback", "probability": 0.15},
    {"kind": "duplicate_callback", "probability": 0.15, "copies": 3},
    {"kind": "forged_callback", "probability": 0.1},
    {"kind": "reset_after", "probability": 0.04, "route": "poll"},
    {"kind": "status", "probability": 0.02, "status": 502, "route": "poll"},
    {"kind": "reset_after", "probability": 0.05, "route": "search"},
    {"kind": "reset_after", "probability": 0.05, "route": "upload"},
    {"kind": "truncate", "probability": 0.03, "route": "download"},
)
ORDER_SECONDS, ORDER_SPREAD_SECONDS = 0.5, 0.3


class Surroundings(Struct, frozen=True):
    """Everything that the gateways of a run use, besides each other."""

    store: StoreServer
    config: RunConfig
    sandbox: RunningSandbox
    receiver: WebhookReceiver


class Troubles:
    """The troubles of one run. Call `step` often. `counts`: what was done."""

    def __init__(self, options: RunOptions, pool: ReplicaPool, surroundings: Surroundings) -> None:
        self._random = Random(f"troubles {options.seed}")  # noqa: S311 - it must be repeatable
        self._pool, self._store, self._config = pool, surroundings.store, surroundings.config
        self._sandbox, self._receiver = surroundings.sandbox, surroundings.receiver
        self.counts: Counter[str] = Counter()
        self._is_store_down = self._is_store_frozen = self._is_config_edited = False
        self._store_stopped_at = 0.0
        self._numbers = count()
        self._queue: list[tuple[float, int, Callable[[float], None]]] = []
        self._plan(options)

    @property
    def store_kills(self) -> int:
        return self.counts["store kills"]

    def _plan(self, options: RunOptions) -> None:
        seconds = options.trouble_seconds
        amounts: dict[Callable[[float], None], float] = {
            self._kill_store: options.store_kills,
            self._freeze_store: seconds * STORE_FREEZES,
            self._freeze_replica: seconds * REPLICA_FREEZES,
            self._edit_config: seconds * CONFIG_EDITS,
            self._stop_target: seconds * TARGET_OUTAGES,
            self._ignore_key: seconds * IGNORED_KEYS,
        }
        for trouble, amount in amounts.items():
            total = max(1, round(amount)) if amount else 0
            for index in range(total):
                # One in each part of the time, so that they do not all come together.
                at = (index + self._random.random()) / total * 0.9 * seconds + 0.05 * seconds
                self._schedule(at, trouble)

    def _schedule(self, at: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._queue, (at, next(self._numbers), action))

    def begin(self) -> None:
        self._sandbox.set_latency(ORDER_SECONDS, ORDER_SPREAD_SECONDS)
        for vendor in ("runflow", "runapi", "openai"):
            self._sandbox.set_balance(vendor, "100000")
        self._sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": 0.05})
        for fault in SELLER_FAULTS:
            self._sandbox.inject_fault(**fault)

    def step(self, seconds: float) -> None:
        """Does what is due, `seconds` after the start."""
        while self._queue and self._queue[0][0] <= seconds:
            _, _, action = heapq.heappop(self._queue)
            action(seconds)

    def end(self, seconds: float) -> None:
        """Undoes everything, so that all that was begun can end. `seconds`: after the start."""
        started_at = time.monotonic()
        while self._is_store_down or self._is_store_frozen:
            self._return_store(seconds + time.monotonic() - started_at)
            time.sleep(RETURN_INTERVAL_SECONDS)
        self._queue.clear()
        self._restore_config(0.0)
        self._start_target(0.0)
        self._sandbox.call_control_route("DELETE", "/faults")

    # --- the store

    def _kill_store(self, seconds: float) -> None:
        if self._is_store_frozen or self._is_store_down:
            self._schedule(seconds + 1.0, self._kill_store)
        elif self._store.kill():
            self.counts["store kills"] += 1
            self._is_store_down, self._store_stopped_at = True, seconds
            self._schedule(seconds + self._random.uniform(0.0, self._store.max_down_seconds), self._return_store)

    def _freeze_store(self, seconds: float) -> None:
        if self._is_store_frozen or self._is_store_down:
            self._schedule(seconds + 1.0, self._freeze_store)
        elif self._store.freeze():
            self.counts["store freezes"] += 1
            self._is_store_frozen, self._store_stopped_at = True, seconds
            self._schedule(seconds + self._random.uniform(0.5, self._store.max_freeze_seconds), self._return_store)

    def _return_store(self, seconds: float) -> None:
        if not self._store.may_return(seconds - self._store_stopped_at):
            self._schedule(seconds + RETURN_INTERVAL_SECONDS, self._return_store)
        elif self._is_store_down:
            self._store.restart()
            self._is_store_down = False
        elif self._is_store_frozen:
            self._store.thaw()
            self._is_store_frozen = False

    # --- gateways

    def _freeze_replica(self, _: float) -> None:
        """Half of the freezes last longer than a lease."""
        self._pool.freeze_one(LEASE_SECONDS * self._random.uniform(0.3, 1.7))

    def _edit_config(self, seconds: float) -> None:
        if self._is_config_edited:
            self._schedule(seconds + 1.0, self._edit_config)
            return
        self._config.edit(self._random)
        self.counts["config edits"] += 1
        self._is_config_edited = True
        self._schedule(seconds + self._random.uniform(1.0, 5.0), self._restore_config)

    def _restore_config(self, _: float) -> None:
        self._config.restore()
        self._is_config_edited = False

    # --- sellers and targets of webhooks

    def _ignore_key(self, _: float) -> None:
        """Lets a seller ignore the next idempotency key that is repeated."""
        self.counts["ignored keys"] += 1
        self._sandbox.inject_fault("ignore_idempotency_key", times=1)

    def _stop_target(self, seconds: float) -> None:
        self.counts["target outages"] += 1
        self._receiver.statuses["/flaky"] = [self._random.choice((500, 503, 429, 302))]
        self._schedule(seconds + self._random.uniform(1.0, 8.0), self._start_target)

    def _start_target(self, _: float) -> None:
        self._receiver.statuses.pop("/flaky", None)
