"""Offers that are removed from the configuration get no new orders, but stay available for their existing orders."""

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.catalogue import DRAINING_TTL_SECONDS, IDENTITY_LENGTH, SellerAccount
from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.reloader import ConfigReloader
from gateway.config.value_types import Secret
from providers import ADAPTERS
from tests.unit.config.reloader_helpers import (
    BY_SHAPE_FILE,
    FILES_WITHOUT_BY_SHAPE,
    list_sellers,
    make_reloader,
    plan_sample_request,
    reload_and_get_offer,
    reload_now,
    remove_file,
)
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config


def test_removed_seller_is_drained(tmp_path: Path) -> None:
    reloader = make_reloader(write_config(tmp_path))
    write_config(tmp_path, FILES_WITHOUT_BY_SHAPE)
    remove_file(tmp_path, BY_SHAPE_FILE)
    (tmp_path / "accounts.yaml").write_text(SAMPLE_FILES["accounts.yaml"].partition("  runapi:")[0])
    assert reload_now(reloader).is_applied, reloader.last_result.resolved.problems
    assert list_sellers(reloader.current) == {"by-pixel"}
    assert "by-shape" not in reloader.current.sellers
    offer = reloader.current.find_offer("by-shape", "image-2")
    assert offer is not None
    assert offer.is_draining
    assert "runapi" not in reloader.current.accounts
    account = reloader.current.find_account("runapi")
    assert account is not None
    assert account.api_key is not None


def test_removed_model_is_drained(tmp_path: Path) -> None:
    extended_offers = {
        name: text.replace("offers:\n", f"offers:\n{_copy_offer(text)}")
        for name, text in SAMPLE_FILES.items()
        if "offers:" in text
    }
    models = SAMPLE_FILES["models.yaml"] + "  other:\n    max_images: 1\n"
    reloader = make_reloader(write_config(tmp_path, {**SAMPLE_FILES, **extended_offers, "models.yaml": models}))
    assert len(reloader.current.offers["other"]) == 2
    write_config(tmp_path)
    assert reload_now(reloader).is_applied
    assert reloader.current.find_model("other") is None
    assert {offer.model for offer in reloader.current.draining_offers} == {"other"}
    assert reloader.current.find_offer("by-pixel", "other") is not None


def _copy_offer(text: str) -> str:
    """Returns the file's offer for another model."""
    return text.partition("offers:\n")[2].replace("image-2:", "other:", 1)


def test_drained_offer_stays_longer_than_any_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reloader = make_reloader(write_config(tmp_path))
    started = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: started)
    write_config(tmp_path, FILES_WITHOUT_BY_SHAPE)
    remove_file(tmp_path, BY_SHAPE_FILE)
    for passed in (0.0, 60.0, DRAINING_TTL_SECONDS - 1):
        monkeypatch.setattr("time.monotonic", lambda passed=passed: started + passed)
        reload_now(reloader)
        assert [offer.seller.name for offer in reloader.current.draining_offers] == ["by-shape"]
        assert reloader.current.find_offer("by-shape", "image-2") is not None
    monkeypatch.setattr("time.monotonic", lambda: started + DRAINING_TTL_SECONDS + 1)
    reload_now(reloader)
    assert reloader.current.draining_offers == ()
    assert reloader.current.find_offer("by-shape", "image-2") is None


def test_restored_offer_stops_draining(tmp_path: Path) -> None:
    reloader = make_reloader(write_config(tmp_path))
    write_config(tmp_path, FILES_WITHOUT_BY_SHAPE)
    remove_file(tmp_path, BY_SHAPE_FILE)
    reload_now(reloader)
    write_config(tmp_path)
    offer = reload_and_get_offer(reloader)
    assert not offer.is_draining
    assert reloader.current.draining_offers == ()
    assert list_sellers(reloader.current) == {"by-pixel", "by-shape"}


def test_seller_moved_to_new_account_keeps_old_account_for_its_orders(tmp_path: Path) -> None:
    reloader = make_reloader(write_config(tmp_path))
    moved = SAMPLE_FILES["accounts.yaml"].replace("  runapi:", "  runapi-new:")
    write_config(
        tmp_path,
        {
            "accounts.yaml": moved,
            BY_SHAPE_FILE: SAMPLE_FILES[BY_SHAPE_FILE].replace("account: runapi", "account: runapi-new"),
        },
    )
    assert reload_now(reloader).is_applied, reloader.last_result.resolved.problems
    offer = reloader.current.find_offer("by-shape", "image-2")
    assert offer is not None
    assert (offer.seller.account.name, offer.is_draining) == ("runapi-new", False)
    assert reloader.current.find_account("runapi") is not None


def test_account_without_key_keeps_old_key_for_its_orders(tmp_path: Path) -> None:
    """No new orders are placed there; existing orders are polled with the previous key."""
    keys = dict(SAMPLE_ENVIRON)
    reloader = ConfigReloader(write_config(tmp_path), secrets_from_env(keys), ADAPTERS, [].append)
    account = reloader.current.sellers["by-shape"].account
    del keys["RUNAPI_KEY"]
    (tmp_path / "gateway.yaml").write_text("# touched\n")
    assert reload_now(reloader).is_applied
    assert "by-shape" not in {entry.fit.offer.seller.name for entry in plan_sample_request(reloader.current).ranked}
    offer = reloader.current.find_offer("by-shape", "image-2")
    assert offer is not None
    assert offer.seller.account == account == reloader.current.find_account(account.name)


def test_seller_with_new_adapter_keeps_old_adapter_for_its_orders(tmp_path: Path) -> None:
    pixel = "offers/by-pixel.yaml"
    reloader = make_reloader(write_config(tmp_path))
    simpler = (
        SAMPLE_FILES[pixel].replace("runflow_runs", "runflow_run").replace("images_per_order: 4", "images_per_order: 1")
    )
    write_config(tmp_path, {pixel: simpler})
    assert reload_now(reloader).is_applied, reloader.last_result.resolved.problems
    offers = {
        key: reloader.current.find_offer("by-pixel", "image-2", key)
        for key in (None, "runflow_runs", "runflow_run", "x")
    }
    states = {name: (key.seller.adapter.name, key.is_draining) if key else None for name, key in offers.items()}
    assert states == {
        None: ("runflow_run", False),
        "runflow_runs": ("runflow_runs", True),
        "runflow_run": ("runflow_run", False),
        "x": None,
    }


def test_account_with_new_base_url_keeps_old_url_for_its_orders(tmp_path: Path) -> None:
    reloader = make_reloader(write_config(tmp_path))
    before = reloader.current.accounts["runapi"]
    write_config(tmp_path, {"accounts.yaml": SAMPLE_FILES["accounts.yaml"].replace("runapi.example", "new.example")})
    assert reload_now(reloader).is_applied
    assert [key.seller.account.base_url for key in reloader.current.draining_offers] == ["https://runapi.example"]
    after = reloader.current.accounts["runapi"]
    offers = {
        key: reloader.current.find_offer("by-shape", "image-2", account_identity=key)
        for key in ("", _require_identity(before), _require_identity(after))
    }
    assert {identity: (key.seller.account.base_url, key.is_draining) for identity, key in offers.items() if key} == {
        "": ("https://new.example", False),
        _require_identity(before): ("https://runapi.example", True),
        _require_identity(after): ("https://new.example", False),
    }
    assert reloader.current.find_offer("by-shape", "image-2", account_identity="nobody's") is None


def _require_identity(account: SellerAccount) -> str:
    assert account.identity
    return account.identity


def test_new_key_keeps_account_identity(tmp_path: Path) -> None:
    keys = dict(SAMPLE_ENVIRON)
    reloader = ConfigReloader(write_config(tmp_path), secrets_from_env(keys), ADAPTERS, lambda _: None)
    before = reloader.current.accounts["runapi"]
    keys["RUNAPI_KEY"] = "sk-new"
    assert reload_now(reloader).is_applied
    assert reloader.current.draining_offers == ()
    offer = reloader.current.find_offer("by-shape", "image-2", account_identity=before.identity)
    assert offer is not None
    assert offer.seller.account.api_key == Secret("sk-new")


def test_drained_offer_uses_new_key_of_account(tmp_path: Path) -> None:
    keys = dict(SAMPLE_ENVIRON)
    reloader = ConfigReloader(write_config(tmp_path), secrets_from_env(keys), ADAPTERS, lambda _: None)
    keys["RUNAPI_KEY"] = "sk-new"
    write_config(tmp_path, FILES_WITHOUT_BY_SHAPE)
    remove_file(tmp_path, BY_SHAPE_FILE)
    offer = reload_and_get_offer(reloader)
    assert offer.is_draining
    assert offer.seller.account.api_key == Secret("sk-new")


def test_account_identity_is_short_and_unique_per_name_and_url(tmp_path: Path) -> None:
    """Short, since every job stores several identities."""
    runapi = make_reloader(write_config(tmp_path)).current.accounts["runapi"]
    others = [replace(runapi, name="runapi-2"), replace(runapi, base_url="https://runapi.example/v2")]
    assert len({account.identity for account in (runapi, *others)}) == 3
    assert len(runapi.identity) == IDENTITY_LENGTH
