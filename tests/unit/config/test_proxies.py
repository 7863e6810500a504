"""An account's proxy: where it is written, what it is, and that its credentials are shown nowhere."""

from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from gateway.catalogue import Catalogue
from gateway.cli import main
from gateway.config.loading import load
from gateway.config.proxies import Proxy
from gateway.config.resolving import Resolved, Secrets, assumed_secrets, resolve, secrets_in
from gateway.config.values import Secret
from gateway.config.watching import Keeper
from providers import ADAPTERS
from tests.unit.config.base import FILES, KEYS, write
from tests.unit.config.following import ALONE, SHAPE

WORD = "canary-word"
WHOLE = f"http://me:{WORD}@proxy.example:3128"
SHOWN = f"Basic {b64encode(f'me:{WORD}'.encode()).decode()}"
KNOWN = Proxy("http://proxy.example:3128", Secret(SHOWN))


def proxied(folder: Path, proxy: str) -> Path:
    """With this proxy for the second account."""
    return write(folder, FILES | {"accounts.yaml": f"{FILES['accounts.yaml']}    proxy: {proxy}\n"})


def resolved(folder: Path, environ: dict[str, str]) -> Resolved:
    return resolve(load(folder), secrets_in(KEYS | environ), ADAPTERS)


def taken(folder: Path, secrets: Secrets) -> Catalogue:
    found = resolve(load(folder), secrets, ADAPTERS)
    assert found.catalogue is not None, found.problems
    return found.catalogue


def test_there_is_none_unless_it_is_named(tmp_path: Path) -> None:
    accounts = taken(proxied(tmp_path, "http://10.0.0.7:3128"), secrets_in(KEYS)).accounts
    assert accounts["runapi"].proxy == Proxy("http://10.0.0.7:3128")
    assert accounts["runflow"].proxy is None


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("http://proxy.example:3128/", "http://proxy.example:3128"),
        ("HTTP://Proxy:80", "http://Proxy:80"),
        ("'http://[fd00::7]:8080'", "http://[fd00::7]:8080"),
    ],
)
def test_how_it_may_be_written(written: str, address: str, tmp_path: Path) -> None:
    proxy = taken(proxied(tmp_path, written), secrets_in(KEYS)).accounts["runapi"].proxy
    assert proxy == Proxy(address)


def test_one_with_credentials_stands_in_the_environment_or_a_file_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text(f"{WHOLE}\n")
    for reference in ("env:PROXY", f"file:{file}"):
        found = resolved(proxied(tmp_path / "config", reference), {"PROXY": WHOLE})
        assert found.warnings == ()
        assert found.catalogue is not None
        assert found.catalogue.accounts["runapi"].proxy == KNOWN


@pytest.mark.parametrize(
    ("written", "meant"),
    [("me:a%40b%3ac%2f", "me:a@b:c/"), ("me:", "me:"), ("gr%C3%B6%C3%9Fe:%0d%0ax", "größe:\r\nx")],
)
def test_special_letters_of_credentials_are_written_as_in_any_address(written: str, meant: str) -> None:
    proxy = Proxy.parse(Secret(f"http://{written}@proxy.example:3128"))
    assert proxy is not None
    assert proxy.credentials == Secret(f"Basic {b64encode(meant.encode()).decode()}")


BAD = [
    *("proxy.example:3128", f"https://me:{WORD}@proxy.example:3128", f"http://me:{WORD}@proxy.example", WORD),
    *(f"http://{WORD}@proxy.example:3128", f"http://me:{WORD}@proxy.example:0", f"http://a:b:{WORD}@proxy.example:1"),
    *(f"http://me:{WORD}@proxy.example:1/x", f"http://me%3a:{WORD}@proxy.example:1", f"http://me:{WORD}@@x:1"),
]


@pytest.mark.parametrize("address", ["", *BAD])
def test_without_its_proxy_an_account_is_left_out_with_a_reason_and_never_goes_without(
    address: str, tmp_path: Path
) -> None:
    found = resolved(proxied(tmp_path, "env:PROXY"), {"PROXY": address})
    why = "holds no address like http://user:password@proxy.example:3128" if address else "is not there"
    assert [str(warning).removeprefix(f"{tmp_path}/") for warning in found.warnings] == [
        f"accounts.yaml:9: accounts.runapi.proxy: env:PROXY {why}: the account is left out"
    ]
    assert found.catalogue is not None
    assert found.catalogue.accounts["runapi"].secret is None
    assert WORD not in repr(found)


def test_planning_needs_no_proxy(tmp_path: Path) -> None:
    assert taken(proxied(tmp_path, "env:PROXY"), assumed_secrets).accounts["runapi"].secret is not None


def test_its_credentials_show_in_nothing_that_prints_or_serialises(tmp_path: Path) -> None:
    found = resolved(proxied(tmp_path, "env:PROXY"), {"PROXY": WHOLE})
    assert found.catalogue is not None
    account = found.catalogue.accounts["runapi"]
    for text in (repr(found), str(account), f"{account.proxy}", found.catalogue.hash):
        assert WORD not in text
        assert SHOWN.removeprefix("Basic ") not in text
    with pytest.raises(TypeError):
        msgspec.json.encode(account)


@pytest.mark.parametrize("command", [["check"], ["explain"], ["explain", "--json"]], ids=" ".join)
def test_commands_tell_no_credentials_whether_they_are_in_their_place_or_not(
    command: list[str], tmp_path: Path
) -> None:
    environ = {**KEYS, "PROXY": WHOLE, "IGW_CONFIG": str(tmp_path)}
    proxied(tmp_path, "env:PROXY")
    right = CliRunner().invoke(main, command, env=environ)
    assert right.exit_code == 0, right.output
    assert WORD not in right.output
    for written in (WHOLE, WHOLE.replace("http:", "https:"), f"http://{WORD}:3128@proxy.example", f"{WORD}:3128"):
        proxied(tmp_path, written)
        wrong = CliRunner().invoke(main, command, env=environ)
        assert wrong.exit_code == 1
        assert WORD not in wrong.output
        assert "accounts.yaml:9: accounts.runapi.proxy: must" in wrong.output


def _kept(folder: Path, environ: dict[str, str]) -> Keeper:
    return Keeper(folder, secrets_in(environ), ADAPTERS, lambda _: None)


def test_a_change_takes_effect_with_the_next_look_also_where_only_its_secret_changed(tmp_path: Path) -> None:
    environ = KEYS | {"PROXY": WHOLE}
    kept = _kept(proxied(tmp_path, "env:PROXY"), environ)
    environ["PROXY"] = "http://proxy.example:8080"
    assert kept.reload().taken
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert offer.seller.account.proxy == Proxy("http://proxy.example:8080")
    proxied(tmp_path, "http://other.example:8080")
    assert kept.reload().taken
    assert kept.current.accounts["runapi"].proxy == Proxy("http://other.example:8080")
    assert kept.current.draining == ()


def _without_shape(folder: Path, proxy: str) -> None:
    write(folder, ALONE | {"accounts.yaml": f"{FILES['accounts.yaml']}    proxy: {proxy}\n"})
    (folder / SHAPE).unlink(missing_ok=True)


def test_orders_of_an_offer_that_disappeared_leave_through_their_accounts_present_proxy(tmp_path: Path) -> None:
    """The old one may be gone, and the orders have been paid for."""
    kept = _kept(proxied(tmp_path, "http://old.example:3128"), KEYS)
    _without_shape(tmp_path, "http://new.example:3128")
    assert kept.reload().taken, kept.last.result.problems
    _without_shape(tmp_path, "http://newer.example:3128")
    assert kept.reload().taken
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert offer.draining
    assert offer.seller.account.proxy == Proxy("http://newer.example:3128")


def test_orders_of_an_account_that_lost_its_proxy_keep_to_the_one_that_they_had(tmp_path: Path) -> None:
    environ = KEYS | {"PROXY": WHOLE}
    kept = _kept(proxied(tmp_path, "env:PROXY"), environ)
    environ["PROXY"] = ""
    assert kept.reload().taken
    offer = kept.current.offer("by-shape", "picture-2")
    assert offer is not None
    assert offer.draining
    assert offer.seller.account.secret is not None
    assert offer.seller.account.proxy == KNOWN
