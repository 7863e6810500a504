"""What disappears from a configuration takes no new orders, and stays for those that it has."""

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.catalogue import DRAINED_SECONDS, IDENTITY_LENGTH, Account
from gateway.config.resolving import secrets_in
from gateway.config.values import Secret
from gateway.config.watching import Keeper
from providers import ADAPTERS
from tests.unit.config.base import FILES, KEYS, write
from tests.unit.config.following import ALONE, SHAPE, keeper, planned, sellers, without


def test_a_seller_that_disappears_is_drained(tmp_path: Path) -> None:
    kept = keeper(write(tmp_path))
    write(tmp_path, ALONE)
    without(tmp_path, SHAPE)
    (tmp_path / "accounts.yaml").write_text(FILES["accounts.yaml"].partition("  runapi:")[0])
    assert kept.reload().taken, kept.last.result.problems
    assert sellers(kept.current) == {"by-pixel"}
    assert "by-shape" not in kept.current.sellers
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert offer.draining
    assert "runapi" not in kept.current.accounts
    account = kept.current.account("runapi")
    assert account is not None
    assert account.secret is not None


def test_a_model_that_disappears_is_drained(tmp_path: Path) -> None:
    two = {
        name: text.replace("offers:\n", f"offers:\n{_copy(text)}") for name, text in FILES.items() if "offers:" in text
    }
    models = FILES["models.yaml"] + "  other:\n    most_images: 1\n"
    kept = keeper(write(tmp_path, {**FILES, **two, "models.yaml": models}))
    assert len(kept.current.offers["other"]) == 2
    write(tmp_path)
    assert kept.reload().taken
    assert kept.current.model("other") is None
    assert {offer.model for offer in kept.current.draining} == {"other"}
    assert kept.current.offer("by-pixel", "other") is not None


def _copy(text: str) -> str:
    """The offer of a file, for another model."""
    return text.partition("offers:\n")[2].replace("picture-2:", "other:", 1)


def test_what_drains_stays_through_further_changes_for_longer_than_any_job_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keeper(write(tmp_path))
    began = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: began)
    write(tmp_path, ALONE)
    without(tmp_path, SHAPE)
    for passed in (0.0, 60.0, DRAINED_SECONDS - 1):
        monkeypatch.setattr("time.monotonic", lambda passed=passed: began + passed)
        kept.reload()
        assert [offer.seller.name for offer in kept.current.draining] == ["by-shape"]
        assert kept.current.offer("by-shape", "picture-2") is not None
    monkeypatch.setattr("time.monotonic", lambda: began + DRAINED_SECONDS + 1)
    kept.reload()
    assert kept.current.draining == ()
    assert kept.current.offer("by-shape", "picture-2") is None


def test_what_comes_back_drains_no_more(tmp_path: Path) -> None:
    kept = keeper(write(tmp_path))
    write(tmp_path, ALONE)
    without(tmp_path, SHAPE)
    kept.reload()
    write(tmp_path)
    assert kept.reload().taken
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert not offer.draining
    assert kept.current.draining == ()
    assert sellers(kept.current) == {"by-pixel", "by-shape"}


def test_a_seller_that_moves_to_another_account_leaves_the_old_one_to_its_orders(tmp_path: Path) -> None:
    kept = keeper(write(tmp_path))
    moved = FILES["accounts.yaml"].replace("  runapi:", "  runapi-new:")
    write(tmp_path, {"accounts.yaml": moved, SHAPE: FILES[SHAPE].replace("account: runapi", "account: runapi-new")})
    assert kept.reload().taken, kept.last.result.problems
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert (offer.seller.account.name, offer.draining) == ("runapi-new", False)
    assert kept.current.account("runapi") is not None


def test_an_account_that_loses_its_key_keeps_it_for_its_orders(tmp_path: Path) -> None:
    """No new orders there, but those under way are asked about with the key that they were placed with."""
    keys = dict(KEYS)
    kept = Keeper(write(tmp_path), secrets_in(keys), ADAPTERS, [].append)
    account = kept.current.sellers["by-shape"].account
    del keys["RUNAPI_KEY"]
    (tmp_path / "gateway.yaml").write_text("# touched\n")
    assert kept.reload().taken
    assert "by-shape" not in {one.fit.offer.seller.name for one in planned(kept.current).ranked}
    found = kept.current.offer("by-shape", "picture-2")
    assert found is not None
    assert found.seller.account == account == kept.current.account(account.name)


def test_a_seller_that_is_spoken_to_otherwise_leaves_the_old_words_to_its_orders(tmp_path: Path) -> None:
    pixel = "offers/by-pixel.yaml"
    kept = keeper(write(tmp_path))
    simpler = FILES[pixel].replace("runflow_runs", "runflow_run").replace("images_per_order: 4", "images_per_order: 1")
    write(tmp_path, {pixel: simpler})
    assert kept.reload().taken, kept.last.result.problems
    found = {
        one: kept.current.offer("by-pixel", "picture-2", one) for one in (None, "runflow_runs", "runflow_run", "x")
    }
    told = {name: (one.seller.adapter.name, one.draining) if one else None for name, one in found.items()}
    assert told == {
        None: ("runflow_run", False),
        "runflow_runs": ("runflow_runs", True),
        "runflow_run": ("runflow_run", False),
        "x": None,
    }


def test_an_account_that_moves_to_another_address_leaves_the_old_one_to_its_orders(tmp_path: Path) -> None:
    kept = keeper(write(tmp_path))
    before = kept.current.accounts["runapi"]
    write(tmp_path, {"accounts.yaml": FILES["accounts.yaml"].replace("runapi.example", "new.example")})
    assert kept.reload().taken
    assert [one.seller.account.base_url for one in kept.current.draining] == ["https://runapi.example"]
    after = kept.current.accounts["runapi"]
    found = {one: kept.current.offer("by-shape", "picture-2", account=one) for one in ("", _of(before), _of(after))}
    assert {identity: (one.seller.account.base_url, one.draining) for identity, one in found.items() if one} == {
        "": ("https://new.example", False),
        _of(before): ("https://runapi.example", True),
        _of(after): ("https://new.example", False),
    }
    assert kept.current.offer("by-shape", "picture-2", account="nobody's") is None


def _of(account: Account) -> str:
    assert account.identity
    return account.identity


def test_an_account_with_a_new_key_is_the_same_to_its_orders(tmp_path: Path) -> None:
    keys = dict(KEYS)
    kept = Keeper(write(tmp_path), secrets_in(keys), ADAPTERS, lambda _: None)
    before = kept.current.accounts["runapi"]
    keys["RUNAPI_KEY"] = "sk-new"
    assert kept.reload().taken
    assert kept.current.draining == ()
    offer = kept.current.offer("by-shape", "picture-2", account=before.identity)
    assert offer is not None
    assert offer.seller.account.secret == Secret("sk-new")


def test_what_drains_is_asked_with_its_accounts_new_key(tmp_path: Path) -> None:
    keys = dict(KEYS)
    kept = Keeper(write(tmp_path), secrets_in(keys), ADAPTERS, lambda _: None)
    keys["RUNAPI_KEY"] = "sk-new"
    write(tmp_path, ALONE)
    without(tmp_path, SHAPE)
    assert kept.reload().taken
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert offer.draining
    assert offer.seller.account.secret == Secret("sk-new")


def test_each_account_and_each_address_of_it_is_told_apart_by_a_few_letters(tmp_path: Path) -> None:
    """Every job remembers several of them."""
    runapi = keeper(write(tmp_path)).current.accounts["runapi"]
    others = [replace(runapi, name="runapi-2"), replace(runapi, base_url="https://runapi.example/v2")]
    assert len({one.identity for one in (runapi, *others)}) == 3
    assert len(runapi.identity) == IDENTITY_LENGTH
