"""The API keys of the store, in memory, so that authentication needs no call of the store."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from gateway.access.key_tokens import TokenDigester, is_token
from gateway.access.rate_limiter import has_limits
from gateway.store.api_keys import ApiKey, ApiKeyChange, ApiKeyStore, make_table_version
from gateway.store.base import StoreUnavailable
from gateway.timeouts_and_intervals import MaintenanceTiming

# Requests with unknown keys that wait for the table. Further ones are rejected at once.
MAX_WAITERS = 200
# A key is accepted under the secret that made its digest, and under the next one.
MAX_DIGESTS = 2


class Clocks(Struct, frozen=True, kw_only=True):
    """The wall clock, which stamps uses, and the monotonic clock."""

    wall_clock: Callable[[], float]
    monotonic: Callable[[], float]


class KeyRegistry:
    """Finds API keys by their digests. `refresh` runs every few seconds, so changes apply on all replicas.

    A request with an unknown key waits for a table that is loaded after the request arrived, so a new key is valid
    everywhere as soon as its admin receives it. These loads are shared, with a pause between them: the store gets a few
    cheap calls a second, however many keys clients guess. The wait is the same whether the key's id exists or not.
    """

    def __init__(
        self,
        store: ApiKeyStore,
        digester: TokenDigester,
        clocks: Clocks,
        draw_bytes: Callable[[int], bytes],
        timing: MaintenanceTiming = MaintenanceTiming(),
    ) -> None:
        self._min_load_interval_seconds = timing.min_key_load_interval_seconds
        self._store, self._digester, self._clocks, self._draw_bytes = store, digester, clocks, draw_bytes
        self._version: str | None = None
        self._keys_by_digest: Mapping[str, ApiKey] = {}
        self._keys_by_id: Mapping[str, ApiKey] = {}
        self._key_ids_by_limits_id: Mapping[str, tuple[str, ...]] = {}
        self.has_limits = False
        self.revoked_key_ids: frozenset[str] = frozenset()
        self._uses: dict[str, float] = {}
        self._next_digests: dict[str, str] = {}
        # Tables are applied in the order in which they are loaded.
        self._load_lock = asyncio.Lock()
        self._last_shared_load_at = -inf
        self._next_shared_load: asyncio.Task[None] | None = None
        self._waiter_count = 0

    # --- lookup

    def find_key(self, token: str) -> ApiKey | None:
        """Finds a key in memory, also an expired or revoked one.

        The digests depend on a secret, so the time of the lookup reveals nothing about other keys.
        """
        digests = self._digester.compute_all_digests(token)
        for digest in digests:
            if key := self._keys_by_digest.get(digest):
                if digests[0] not in key.digests:
                    self._next_digests[key.id] = digests[0]
                return key
        return None

    def find_key_by_id(self, key_id: str) -> ApiKey | None:
        """Finds a key in memory, also an expired or revoked one."""
        return self._keys_by_id.get(key_id)

    async def find_recent_key(self, token: str) -> ApiKey | None:
        """Finds a key that `find_key` did not find: in a table that is loaded after this call.

        Raises StoreUnavailable if it cannot be loaded.
        """
        if not is_token(token) or self._waiter_count >= MAX_WAITERS:
            return None
        self._waiter_count += 1
        try:
            await asyncio.shield(self._get_next_shared_load())
        finally:
            self._waiter_count -= 1
        return self.find_key(token)

    def _get_next_shared_load(self) -> "asyncio.Task[None]":
        """Returns a load that has not begun, so that its table contains everything that was saved before."""
        if self._next_shared_load is None:
            self._next_shared_load = asyncio.create_task(self._load_after_pause())
            # If every waiting request was cancelled, its error is retrieved here.
            self._next_shared_load.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._next_shared_load

    async def _load_after_pause(self) -> None:
        pause_ends_at = self._last_shared_load_at + self._min_load_interval_seconds
        await asyncio.sleep(max(0.0, pause_ends_at - self._clocks.monotonic()))
        async with self._load_lock:
            self._next_shared_load, self._last_shared_load_at = None, self._clocks.monotonic()
            await self._load()

    def list_successors(self, limits_id: str) -> tuple[str, ...]:
        """Lists the ids of the other keys that share rate limits with the first one, also of ended keys."""
        return self._key_ids_by_limits_id.get(limits_id, ())

    # --- refresh

    async def refresh(self) -> None:
        """Loads the table if it has changed."""
        async with self._load_lock:
            await self._load()

    async def _load(self) -> None:
        if table := await self._store.load_table(self._version):
            self._version = table.version
            self._keys_by_digest = {digest: key for key in table.keys for digest in key.digests}
            self._keys_by_id = {key.id: key for key in table.keys}
            self._key_ids_by_limits_id = _group_by_limits_id(table.keys)
            self.has_limits = any(has_limits(key.limits) for key in table.keys)
            self.revoked_key_ids = frozenset(key.id for key in table.keys if key.revoked_at is not None)

    # --- uses

    def record_use(self, key: ApiKey) -> None:
        """Notes the time of a use, to be saved with the next uses."""
        self._uses[key.id] = self._clocks.wall_clock()

    async def save_uses(self) -> None:
        """Saves when keys were last used, and the digests of keys under the new secret while secrets are rotated."""
        if uses := dict(self._uses):
            await self._store.record_uses(uses)
            self._uses = {key_id: used_at for key_id, used_at in self._uses.items() if used_at != uses.get(key_id)}
        if self._next_digests:
            await self._save_next_digests()

    async def save_last_uses(self) -> None:
        """Saves the last uses when the process stops. If the store is unavailable, they are lost."""
        with contextlib.suppress(StoreUnavailable):
            await self.save_uses()

    async def _save_next_digests(self) -> None:
        """Adds digests under the new secret. If another replica changes the table meanwhile, the next call does so."""
        if (table := await self._store.load_table()) is None:
            return
        keys = [_add_digest(key, self._next_digests[key.id]) for key in table.keys if key.id in self._next_digests]
        change = ApiKeyChange(
            expected_version=table.version, version=make_table_version(self._draw_bytes), keys=tuple(keys)
        )
        if await self._store.change_table(change):
            self._next_digests = {}
            await self.refresh()


def _group_by_limits_id(keys: Sequence[ApiKey]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for key in keys:
        if key.first_id is not None:
            groups[key.first_id] = (*groups.get(key.first_id, ()), key.id)
    return groups


def _add_digest(key: ApiKey, digest: str) -> ApiKey:
    digests: Sequence[str] = key.digests if digest in key.digests else (digest, *key.digests)
    return replace(key, digests=tuple(digests[:MAX_DIGESTS]))
