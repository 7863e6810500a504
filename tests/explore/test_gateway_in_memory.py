"""A whole gateway is built from its factories, and serves HTTP in memory and in virtual time."""

import asyncio
import base64
from pathlib import Path
from random import Random

import httpx
import pytest

from gateway.assets.storage import ImageStorage
from gateway.components import Factories
from gateway.config.reloader import ConfigReloader
from gateway.config.schema import DEFAULT_ADMIN_KEYS
from gateway.config.value_types import Secret, SecretRef
from gateway.gateway_lifecycle import Gateway
from gateway.jobs.transition_tables import LedgerLine
from gateway.settings import load_settings
from tests.explore.scripted_sellers import ScriptedSellers
from tests.explore.seller_dialects import CALLBACK_SECRET, read_image_url
from tests.explore.sellers_config import EXPLORED_ADAPTERS, find_policy, write_config
from tests.explore.story import Story
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.virtual_time_loop import run_in_virtual_time

# Litestar announces changes of its next version. A gateway process ignores these warnings, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
ENVIRON = {"IGW_SECRET": "a secret for signing URLs"}


def find_secret(reference: SecretRef) -> Secret | None:
    return None if reference in DEFAULT_ADMIN_KEYS else Secret(CALLBACK_SECRET)


async def order_image(folder: Path) -> tuple[httpx.Response, MemoryState, ScriptedSellers]:
    loop, state = asyncio.get_running_loop(), MemoryState()
    sellers, images = ScriptedSellers(Random(1), Story(loop.time), is_calm=True), MemoryBackend()
    gateway = Gateway(
        load_settings(ENVIRON, config=folder, data=folder / "data"),
        lambda on_reload: ConfigReloader(folder, find_secret, EXPLORED_ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
        Factories(
            make_store=lambda options: MemoryStore(state, clock=options.wall_clock),
            make_storage=lambda _: ImageStorage(images),
            make_seller_client=lambda _: sellers,
            system_clock=loop.time,
            monotonic=loop.time,
        ),
    )
    transport = httpx.ASGITransport(gateway.app)
    headers = {"authorization": f"Bearer {CALLBACK_SECRET}"}
    async with (
        gateway.app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="https://gateway.test", headers=headers) as http,
    ):
        body = {"prompt": "a fox", "size": "1024x1024", "policy": find_policy("runs")}
        response = await http.post("/v1/images/generations", json=body)
        await gateway.drain()
    return response, state, sellers


def test_gateway_of_factories_serves_a_request_in_memory(tmp_path: Path) -> None:
    write_config(tmp_path)
    response, state, sellers = run_in_virtual_time(order_image(tmp_path))
    assert response.status_code == 200, response.text
    [image] = response.json()["data"]
    [order] = sellers.orders.values()
    assert read_image_url(base64.b64decode(image["b64_json"])) == order.file_urls[0]
    [entry] = state.ledger.entries
    assert (entry.line, entry.amount) == (LedgerLine.CAPTURE, order.charge)
    [job] = [stored.job for stored in state.jobs.values()]
    assert response.headers["x-igw-job-id"] == job.id
    assert not (tmp_path / "data").exists()
