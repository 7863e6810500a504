"""Proxy of an account: accepted forms, resolution, and redaction of its credentials."""

from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gateway.catalogue import Catalogue
from gateway.cli import main
from gateway.config.account_proxy import Proxy
from gateway.config.catalogue_builder import (
    ResolvedConfig,
    SecretLookup,
    placeholder_secrets,
    resolve_files,
    secrets_from_env,
)
from gateway.config.loader import load
from gateway.config.reloader import ConfigReloader
from gateway.config.value_types import Secret
from providers import ADAPTERS
from tests.unit.config.reloader_helpers import BY_SHAPE_FILE, FILES_WITHOUT_BY_SHAPE, reload_and_get_offer, reload_now
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

PASSWORD = "canary-word"
PROXY_URL = f"http://me:{PASSWORD}@proxy.example:3128"
BASIC_CREDENTIALS = f"Basic {b64encode(f'me:{PASSWORD}'.encode()).decode()}"
EXPECTED_PROXY = Proxy("http://proxy.example:3128", Secret(BASIC_CREDENTIALS))


def write_with_proxy(folder: Path, proxy: str) -> Path:
    """Writes the sample configuration with this proxy for the second account."""
    return write_config(
        folder, SAMPLE_FILES | {"accounts.yaml": f"{SAMPLE_FILES['accounts.yaml']}    proxy: {proxy}\n"}
    )


def resolve_config(folder: Path, environ: dict[str, str]) -> ResolvedConfig:
    return resolve_files(load(folder), secrets_from_env(SAMPLE_ENVIRON | environ), ADAPTERS)


def resolve_catalogue(folder: Path, secrets: SecretLookup) -> Catalogue:
    config = resolve_files(load(folder), secrets, ADAPTERS)
    assert config.catalogue is not None, config.problems
    return config.catalogue


def test_account_has_no_proxy_by_default(tmp_path: Path) -> None:
    accounts = resolve_catalogue(
        write_with_proxy(tmp_path, "http://10.0.0.7:3128"), secrets_from_env(SAMPLE_ENVIRON)
    ).accounts
    assert accounts["runapi"].proxy == Proxy("http://10.0.0.7:3128")
    assert accounts["runflow"].proxy is None


@pytest.mark.parametrize(
    ("spelling", "address"),
    [
        ("http://proxy.example:3128/", "http://proxy.example:3128"),
        ("HTTP://Proxy:80", "http://Proxy:80"),
        ("'http://[fd00::7]:8080'", "http://[fd00::7]:8080"),
    ],
)
def test_accepted_proxy_spellings(spelling: str, address: str, tmp_path: Path) -> None:
    proxy = (
        resolve_catalogue(write_with_proxy(tmp_path, spelling), secrets_from_env(SAMPLE_ENVIRON))
        .accounts["runapi"]
        .proxy
    )
    assert proxy == Proxy(address)


def test_proxy_with_credentials_is_read_from_environment_or_file(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text(f"{PROXY_URL}\n")
    for reference in ("env:PROXY", f"file:{file}"):
        config = resolve_config(write_with_proxy(tmp_path / "config", reference), {"PROXY": PROXY_URL})
        assert config.warnings == ()
        assert config.catalogue is not None
        assert config.catalogue.accounts["runapi"].proxy == EXPECTED_PROXY


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [("me:a%40b%3ac%2f", "me:a@b:c/"), ("me:", "me:"), ("gr%C3%B6%C3%9Fe:%0d%0ax", "größe:\r\nx")],
)
def test_credentials_are_percent_decoded(encoded: str, decoded: str) -> None:
    proxy = Proxy.parse(Secret(f"http://{encoded}@proxy.example:3128"))
    assert proxy is not None
    assert proxy.credentials == Secret(f"Basic {b64encode(decoded.encode()).decode()}")


INVALID_PROXY_URLS = [
    *(
        "proxy.example:3128",
        f"https://me:{PASSWORD}@proxy.example:3128",
        f"http://me:{PASSWORD}@proxy.example",
        PASSWORD,
    ),
    *(
        f"http://{PASSWORD}@proxy.example:3128",
        f"http://me:{PASSWORD}@proxy.example:0",
        f"http://a:b:{PASSWORD}@proxy.example:1",
    ),
    *(
        f"http://me:{PASSWORD}@proxy.example:1/x",
        f"http://me%3a:{PASSWORD}@proxy.example:1",
        f"http://me:{PASSWORD}@@x:1",
    ),
]


@pytest.mark.parametrize("address", ["", *INVALID_PROXY_URLS])
def test_account_with_invalid_proxy_is_disabled_with_reason(address: str, tmp_path: Path) -> None:
    config = resolve_config(write_with_proxy(tmp_path, "env:PROXY"), {"PROXY": address})
    reason = "does not contain an address like http://user:password@proxy.example:3128" if address else "not found"
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in config.warnings] == [
        f"accounts.yaml:9: accounts.runapi.proxy: env:PROXY {reason}: the account is disabled"
    ]
    assert config.catalogue is not None
    assert config.catalogue.accounts["runapi"].api_key is None
    assert PASSWORD not in repr(config)


def test_planning_needs_no_proxy(tmp_path: Path) -> None:
    assert (
        resolve_catalogue(write_with_proxy(tmp_path, "env:PROXY"), placeholder_secrets).accounts["runapi"].api_key
        is not None
    )


def test_credentials_are_never_printed_or_serialized(tmp_path: Path) -> None:
    config = resolve_config(write_with_proxy(tmp_path, "env:PROXY"), {"PROXY": PROXY_URL})
    assert config.catalogue is not None
    account = config.catalogue.accounts["runapi"]
    for text in (repr(config), str(account), f"{account.proxy}", config.catalogue.hash):
        assert PASSWORD not in text
        assert BASIC_CREDENTIALS.removeprefix("Basic ") not in text
    with pytest.raises(TypeError):
        msgspec.json.encode(account)


@pytest.mark.parametrize("command", [["check"], ["explain"], ["explain", "--json"]], ids=" ".join)
def test_commands_never_print_credentials(command: list[str], tmp_path: Path) -> None:
    environ = {**SAMPLE_ENVIRON, "PROXY": PROXY_URL, "IGW_CONFIG": str(tmp_path)}
    write_with_proxy(tmp_path, "env:PROXY")
    valid_result = CliRunner().invoke(main, command, env=environ)
    assert valid_result.exit_code == 0, valid_result.output
    assert PASSWORD not in valid_result.output
    for invalid_proxy in (
        PROXY_URL,
        PROXY_URL.replace("http:", "https:"),
        f"http://{PASSWORD}:3128@proxy.example",
        f"{PASSWORD}:3128",
    ):
        write_with_proxy(tmp_path, invalid_proxy)
        invalid_result = CliRunner().invoke(main, command, env=environ)
        assert invalid_result.exit_code == 1
        assert PASSWORD not in invalid_result.output
        assert "accounts.yaml:9: accounts.runapi.proxy: Invalid proxy" in invalid_result.output


def _make_reloader(folder: Path, environ: dict[str, str]) -> ConfigReloader:
    return ConfigReloader(folder, secrets_from_env(environ), ADAPTERS, lambda _: None)


def test_reload_applies_changed_proxy_secret(tmp_path: Path) -> None:
    environ = SAMPLE_ENVIRON | {"PROXY": PROXY_URL}
    reloader = _make_reloader(write_with_proxy(tmp_path, "env:PROXY"), environ)
    environ["PROXY"] = "http://proxy.example:8080"
    offer = reload_and_get_offer(reloader)
    assert offer.seller.account.proxy == Proxy("http://proxy.example:8080")
    write_with_proxy(tmp_path, "http://other.example:8080")
    assert reload_now(reloader).is_applied
    assert reloader.current.accounts["runapi"].proxy == Proxy("http://other.example:8080")
    assert reloader.current.draining_offers == ()


def _write_without_by_shape(folder: Path, proxy: str) -> None:
    write_config(
        folder, FILES_WITHOUT_BY_SHAPE | {"accounts.yaml": f"{SAMPLE_FILES['accounts.yaml']}    proxy: {proxy}\n"}
    )
    (folder / BY_SHAPE_FILE).unlink(missing_ok=True)


def test_removed_offer_uses_current_proxy_of_its_account(tmp_path: Path) -> None:
    """Running orders of the offer are charged, so they must be polled, and the previous proxy may no longer exist."""
    reloader = _make_reloader(write_with_proxy(tmp_path, "http://old.example:3128"), SAMPLE_ENVIRON)
    _write_without_by_shape(tmp_path, "http://new.example:3128")
    assert reload_now(reloader).is_applied, reloader.last_result.resolved.problems
    _write_without_by_shape(tmp_path, "http://newer.example:3128")
    offer = reload_and_get_offer(reloader)
    assert offer.is_draining
    assert offer.seller.account.proxy == Proxy("http://newer.example:3128")


def test_account_that_lost_its_proxy_keeps_old_proxy_for_its_orders(tmp_path: Path) -> None:
    environ = SAMPLE_ENVIRON | {"PROXY": PROXY_URL}
    reloader = _make_reloader(write_with_proxy(tmp_path, "env:PROXY"), environ)
    environ["PROXY"] = ""
    offer = reload_and_get_offer(reloader)
    assert offer.is_draining
    assert offer.seller.account.api_key is not None
    assert offer.seller.account.proxy == EXPECTED_PROXY
