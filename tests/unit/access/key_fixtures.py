"""A store of API keys in memory that counts its calls, and an administration with a clock that tests set."""

import asyncio
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from gateway.access.key_administration import Admin, CreatedKey, KeyAdministration, KeyOptions
from gateway.access.key_registry import Clocks, KeyRegistry
from gateway.access.key_tokens import TokenDigester
from gateway.catalogue import Catalogue
from gateway.store.api_keys import ApiKey
from gateway.store.base import StoreUnavailable
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store.memory_api_keys import MemoryApiKeys, MemoryApiKeyTable
from tests.unit.config.sample_config import resolve_config, write_config

SECRET, NEXT_SECRET = b"the first secret of all replicas", b"the next secret of all replicas"
ADMIN = Admin("env:IGW_ADMIN_KEY", "10.0.0.1")
NOON = 2_000_000_000.0


class KeyWorld:
    """The table of API keys of a test. `calls`: how often each call was made; `is_down`: whether they fail;
    `call_seconds`: how long each answer takes."""

    def __init__(self, call_seconds: float = 0.0) -> None:
        self.clock = ManualClock(NOON)
        self.table = MemoryApiKeyTable()
        self.store = MemoryApiKeys(self.table, self._run)
        self.calls = Counter[str]()
        self.is_down = False
        self.call_seconds = call_seconds
        self.draw_bytes = Random(7).randbytes  # noqa: S311

    async def _run(self, name: str, arguments: tuple[Any, ...], effect: Any) -> Any:
        self.calls[name] += 1
        if self.is_down:
            raise StoreUnavailable("down")
        result = effect(self.clock.now)
        await asyncio.sleep(self.call_seconds)
        return result

    def make_administration(self, *secrets: bytes) -> KeyAdministration:
        return KeyAdministration(
            self.store, TokenDigester(secrets or (SECRET,)), get_catalogue, self.clock, self.draw_bytes
        )

    def make_registry(self, *secrets: bytes) -> KeyRegistry:
        clocks = Clocks(wall_clock=self.clock, monotonic=asyncio.get_running_loop().time)
        return KeyRegistry(self.store, TokenDigester(secrets or (SECRET,)), clocks, self.draw_bytes)

    async def load_registry(self, *secrets: bytes) -> KeyRegistry:
        """Makes a registry that has loaded the table."""
        registry = self.make_registry(*secrets)
        await registry.refresh()
        return registry

    async def create_key(self) -> ApiKey:
        return (await self._create_key()).key

    async def create_token(self, **options: Any) -> str:
        return (await self._create_key(**options)).token

    async def _create_key(self, **options: Any) -> CreatedKey:
        return await self.make_administration().create_key(KeyOptions(**({"team": "design"} | options)), ADMIN)


@cache
def get_catalogue() -> Catalogue:
    """Returns the sample configuration: the team `design` may request the policies `cheapest` and `steady`."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = resolve_config(write_config(Path(folder))).catalogue
    assert catalogue is not None
    return catalogue
