"""A whole gateway is built from its factories, and serves HTTP in memory and in virtual time."""

import asyncio
import base64
import json
import re
from pathlib import Path
from random import Random

import httpx
import pytest

from gateway.assets.storage import ImageStorage
from gateway.components import Factories
from gateway.config.catalogue_builder import SecretLookup
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


def build_gateway(
    folder: Path, state: MemoryState, sellers: ScriptedSellers, secrets: SecretLookup = find_secret
) -> Gateway:
    loop, images = asyncio.get_running_loop(), MemoryBackend()
    return Gateway(
        load_settings(ENVIRON, config=folder, data=folder / "data"),
        lambda on_reload: ConfigReloader(folder, secrets, EXPLORED_ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
        Factories(
            make_store=lambda options: MemoryStore(state, clock=options.wall_clock),
            make_storage=lambda *_: ImageStorage(images),
            make_seller_client=lambda _: sellers,
            system_clock=loop.time,
            monotonic=loop.time,
        ),
    )


def make_sellers() -> ScriptedSellers:
    return ScriptedSellers(Random(1), Story(asyncio.get_running_loop().time), is_calm=True)


async def order_image(folder: Path) -> tuple[httpx.Response, MemoryState, ScriptedSellers]:
    state, sellers = MemoryState(), make_sellers()
    gateway = build_gateway(folder, state, sellers)
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


async def change_secret_of_invalid_configuration(folder: Path) -> None:
    changed: set[SecretRef] = set()

    def find_changed_secret(reference: SecretRef) -> Secret | None:
        return Secret("changed") if reference in changed else find_secret(reference)

    gateway = build_gateway(folder, MemoryState(), make_sellers(), find_changed_secret)
    (folder / "teams.yaml").write_text("teams: [\n")
    await gateway.reloader.reload()
    changed.add(SecretRef("env:CHANGED"))
    await gateway.reloader.reload()
    gateway.logs.close()


def test_log_names_changed_secret_that_is_not_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(tmp_path)
    accounts = tmp_path / "accounts.yaml"
    reference = re.search(r"env:\w+", accounts.read_text())
    assert reference is not None
    accounts.write_text(accounts.read_text().replace(reference[0], "env:CHANGED", 1))
    run_in_virtual_time(change_secret_of_invalid_configuration(tmp_path))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines if "configuration" in line["event"]] == ["configuration rejected"] * 2
    [line] = [line for line in lines if line["event"] == "changed secret not applied"]
    assert (line["level"], line["secret"]) == ("error", "env:CHANGED")
    assert "Correct the problems" in line["reason"]
