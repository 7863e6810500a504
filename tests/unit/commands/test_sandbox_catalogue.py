"""Sellers whose adapter the sandbox does not simulate are skipped with a warning, and the others work."""

from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.commands import sandbox_catalogue
from gateway.config.catalogue_builder import placeholder_secrets, resolve_files
from gateway.config.loader import load
from providers import ADAPTERS
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_runner import RunningGateway
from tests.unit.commands.unsimulated_adapters import ADD_ADAPTERS
from tests.unit.config.sample_config import write_config


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    resolved = resolve_files(load(write_config(tmp_path)), placeholder_secrets, ADAPTERS).catalogue
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


@pytest.mark.thorough
def test_gateway_starts_and_logs_left_out_seller(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    offer = config / "offers" / "by-pixel.yaml"
    (config / "offers" / "newcomer.yaml").write_text(offer.read_text().replace("runflow_runs", "fifth"))
    with make_gateway(tmp_path, config) as gateway:
        gateway.start()
        assert gateway.get("/readyz").status_code == 200
        lines = gateway.read_log_lines()
        assert [line["seller"] for line in lines if line["event"] == "seller skipped"] == ["newcomer"]


@pytest.mark.thorough
def test_gateway_without_simulated_sellers_exits_with_message(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config")
    for name, adapter, unsimulated in (("by-pixel", "runflow_runs", "fifth"), ("by-shape", "runapi\n", "sixth\n")):
        offer = config / "offers" / f"{name}.yaml"
        offer.write_text(offer.read_text().replace(f"adapter: {adapter}", f"adapter: {unsimulated}"))
    with make_gateway(tmp_path, config) as gateway:
        gateway.launch()
        assert gateway.wait_for_exit() == 1
    assert "no configured seller uses one" in gateway.stderr
    assert "Traceback" not in gateway.stderr


def make_gateway(folder: Path, config: Path) -> RunningGateway:
    return RunningGateway(folder, "--config", str(config), child=ChildSpec(hooks=(ADD_ADAPTERS,)))
