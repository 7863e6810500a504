"""Sellers whose adapter the sandbox does not simulate are skipped with a warning, and the others work."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.catalogue import Catalogue
from gateway.commands import sandbox_catalogue
from gateway.config.loader import load
from gateway.config.resolver import placeholder_secrets, resolve
from providers import ADAPTERS
from tests.harness.gateway_runner import ROOT
from tests.unit.config.sample_config import write_config

# Two more adapters, which the sandbox does not simulate.
CLI_WITH_MORE_ADAPTERS = """
from msgspec.structs import replace
import providers
more = {"fifth": providers.ADAPTERS["runflow_runs"], "sixth": providers.ADAPTERS["runapi"]}
made = {name: replace(adapter, name=name) for name, adapter in more.items()}
providers.ADAPTERS = {**providers.ADAPTERS, **made}
from gateway.cli import main
main()
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    resolved = resolve(load(write_config(tmp_path)), placeholder_secrets, ADAPTERS).catalogue
    assert resolved is not None
    return resolved


def test_unsimulated_seller_is_left_out(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = {name: account for name, account in sandbox_catalogue.SIMULATED_SELLERS.items() if name != "runapi"}
    monkeypatch.setattr(sandbox_catalogue, "SIMULATED_SELLERS", simulated)
    assert sandbox_catalogue.list_unsimulated_sellers(catalogue) == ["by-shape"]
    simulated_catalogue = sandbox_catalogue.use_sandbox_sellers(catalogue, "http://sandbox", "secret", True)
    assert set(simulated_catalogue.sellers) == {"by-pixel"}
    assert {offer.seller.name for offer in simulated_catalogue.iter_offers()} == {"by-pixel"}
    assert set(simulated_catalogue.models) == set(catalogue.models)


def test_simulated_sellers_all_stay(catalogue: Catalogue) -> None:
    assert sandbox_catalogue.list_unsimulated_sellers(catalogue) == []
    assert set(sandbox_catalogue.use_sandbox_sellers(catalogue, "http://sandbox", "secret", True).sellers) == set(
        catalogue.sellers
    )


def test_gateway_starts_and_logs_left_out_seller(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    offer = config / "offers" / "by-pixel.yaml"
    (config / "offers" / "newcomer.yaml").write_text(offer.read_text().replace("runflow_runs", "fifth"))
    with run_with_more_adapters(tmp_path, config) as process:
        url = _wait_for_url(process, tmp_path)
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [line["seller"] for line in lines if line["event"] == "seller skipped"] == ["newcomer"]


def test_gateway_without_simulated_sellers_exits_with_message(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    for name, adapter, unsimulated in (("by-pixel", "runflow_runs", "fifth"), ("by-shape", "runapi\n", "sixth\n")):
        offer = config / "offers" / f"{name}.yaml"
        offer.write_text(offer.read_text().replace(f"adapter: {adapter}", f"adapter: {unsimulated}"))
    with run_with_more_adapters(tmp_path, config) as process:
        assert process.wait(timeout=30) == 1
    log = (tmp_path / "log").read_text()
    assert "no configured seller uses one" in log
    assert "Traceback" not in log


@contextmanager
def run_with_more_adapters(folder: Path, config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    options = ["serve", "--sandbox", "--port", "0", "--config", str(config), "--data", str(folder / "data")]
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", CLI_WITH_MORE_ADAPTERS, *options], cwd=ROOT, stdout=out, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for_url(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    deadline = time.monotonic() + 60
    while not (match := re.search(r"listening on (\S+)", (folder / "out").read_text())):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "the gateway does not listen"
        time.sleep(0.02)
    return match[1]
