"""Sellers whose adapter the sandbox does not play are left out of it, by name, and the others work."""

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
from gateway.commands import sandboxed
from gateway.config.loading import load
from gateway.config.resolving import assumed_secrets, resolve
from providers import ADAPTERS
from tests.serving import ROOT
from tests.unit.config.base import write

# Two more adapters, as a newcomer would add them: the sandbox does not simulate them.
MORE = """
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
    found = resolve(load(write(tmp_path)), assumed_secrets, ADAPTERS).catalogue
    assert found is not None
    return found


def test_seller_that_is_not_played_is_left_out(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    played = {name: place for name, place in sandboxed.SELLERS.items() if name != "runapi"}
    monkeypatch.setattr(sandboxed, "SELLERS", played)
    assert sandboxed.unsimulated(catalogue) == ["by-shape"]
    made = sandboxed.sandboxed(catalogue, "http://sandbox", "secret", True)
    assert set(made.sellers) == {"by-pixel"}
    assert {offer.seller.name for offer in made.all_offers()} == {"by-pixel"}
    assert set(made.models) == set(catalogue.models)


def test_sellers_that_are_played_all_stay(catalogue: Catalogue) -> None:
    assert sandboxed.unsimulated(catalogue) == []
    assert set(sandboxed.sandboxed(catalogue, "http://sandbox", "secret", True).sellers) == set(catalogue.sellers)


def test_gateway_with_a_seller_of_another_adapter_starts_and_names_it(tmp_path: Path) -> None:
    config = write(tmp_path / "config")
    offer = config / "offers" / "by-pixel.yaml"
    (config / "offers" / "newcomer.yaml").write_text(offer.read_text().replace("runflow_runs", "fifth"))
    with serving(tmp_path, config) as process:
        url = _announced(process, tmp_path)
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [line["seller"] for line in lines if line["event"] == "seller left out"] == ["newcomer"]


def test_gateway_without_any_seller_that_is_played_says_so(tmp_path: Path) -> None:
    config = write(tmp_path / "config")
    for name, adapter, other in (("by-pixel", "runflow_runs", "fifth"), ("by-shape", "runapi\n", "sixth\n")):
        offer = config / "offers" / f"{name}.yaml"
        offer.write_text(offer.read_text().replace(f"adapter: {adapter}", f"adapter: {other}"))
    with serving(tmp_path, config) as process:
        assert process.wait(timeout=30) == 1
    said = (tmp_path / "log").read_text()
    assert "no configured seller uses one" in said
    assert "Traceback" not in said


@contextmanager
def serving(folder: Path, config: Path) -> "Iterator[subprocess.Popen[bytes]]":
    options = ["serve", "--sandbox", "--port", "0", "--config", str(config), "--data", str(folder / "data")]
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", MORE, *options], cwd=ROOT, stdout=out, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _announced(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    deadline = time.monotonic() + 60
    while not (found := re.search(r"listening on (\S+)", (folder / "out").read_text())):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "it does not listen"
        time.sleep(0.02)
    return found[1]
