"""`doctor` at sellers: keys, balances, and hosts that do not answer."""

import socket
import time
from pathlib import Path

import pytest

from tests.doctor.doctor_runner import Installation
from tests.harness.answering_server import run_answering_server
from tests.harness.ports import reserve_port

BALANCE = b'{"balance_cents": 100000}'


@pytest.mark.parametrize(
    ("account", "variable"),
    [("runflow", "RUNFLOW_API_KEY"), ("runapi", "RUNAPI_API_KEY"), ("openai", "OPENAI_API_KEY")],
)
def test_wrong_key_fails(installation: Installation, account: str, variable: str) -> None:
    finding = installation.run(**{variable: "wrong-key"}).get(f"seller {account}")
    assert (finding.status, finding.message) == ("failed", "It answered 401: the key is not valid.")


@pytest.mark.parametrize("kind", ["env", "file"])
@pytest.mark.parametrize(
    "key", ["canary-runapi\nsecond-line", "canary-runapi-é", "\ufeffcanary-runapi", "canary\x07-runapi"]
)
def test_key_that_no_header_can_carry_is_named_but_not_shown(
    installation: Installation, tmp_path: Path, kind: str, key: str
) -> None:
    path = tmp_path / "runapi-key"
    path.write_text(key)
    path.chmod(0o600)
    reference = f"file:{path}" if kind == "file" else "env:RUNAPI_API_KEY"
    installation.change_config("accounts.yaml", "env:RUNAPI_API_KEY", reference)
    report = installation.run(RUNAPI_API_KEY=key)
    (finding,) = [finding for finding in report.list_all("secrets") if finding.status == "failed"]
    assert finding.message.startswith(f"{reference}, the key of account runapi, contains a line break or another")
    assert "one line of visible ASCII characters" in finding.remedy
    assert report.get("seller runapi").status == "skipped"
    assert report.get("seller runflow").status == "ok"
    assert "canary" not in repr(report.findings)


@pytest.mark.parametrize("account", ["runflow", "runapi"])
def test_empty_balance_fails_and_low_one_is_a_warning(installation: Installation, account: str) -> None:
    installation.sandbox.set_balance(account, "0")
    finding = installation.run().get(f"seller {account}")
    assert (finding.status, finding.remedy) == ("failed", "Add credit there.")
    installation.sandbox.set_balance(account, "0.13")
    low = installation.run().get(f"seller {account}")
    assert low.status == "warning"
    assert "of the dearest images." in low.message


@pytest.mark.parametrize(
    ("status", "expected", "message"),
    [
        (403, "warning", "It answered 403: this key may not query the account."),
        (404, "warning", "It answered 404: it has no route that shows whether the key is valid."),
        (402, "failed", "It answered 402: there is no credit left."),
        (500, "warning", "It answered 500: "),
        (429, "warning", "It answered 429: "),
    ],
)
def test_answer_of_each_class(installation: Installation, status: int, expected: str, message: str) -> None:
    installation.sandbox.inject_fault("status", vendor="runapi", route="account", status=status)
    finding = installation.run().get("seller runapi")
    assert finding.status == expected
    assert finding.message.startswith(message)


def test_unreachable_seller_fails_and_others_are_checked(installation: Installation) -> None:
    url = f"http://127.0.0.1:{reserve_port()}"
    installation.change_config("accounts.yaml", f"{installation.sandbox.url}/runapi", url)
    report = installation.run()
    finding = report.get("seller runapi")
    assert finding.status == "failed"
    assert finding.message.startswith(f"{url} did not answer")
    assert report.get("seller runflow").status == "ok"


def test_silent_hosts_are_findings_within_the_timeout(installation: Installation) -> None:
    """A seller, the store, the gateway and the public URL accept connections and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        port = silent.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        installation.change_config("accounts.yaml", f"{installation.sandbox.url}/runapi", url)
        started_at = time.monotonic()
        report = installation.run(
            *("--timeout", "5", "--url", url),
            IGW_PUBLIC_URL=url,
            REDIS_URL=f"redis://127.0.0.1:{port}",
            IGW_ASSETS=str(installation.data),
            IGW_ASSETS_SHARED="yes",
        )
        assert time.monotonic() - started_at < 40
    assert [report.get(check).status for check in ("store", "seller runapi")] == ["failed", "failed"]
    assert [report.get(check).status for check in ("gateway", "public url")] == ["skipped", "skipped"]
    assert report.get("seller runflow").status == "ok"


@pytest.mark.parametrize(("offset", "status"), [(0.0, "ok"), (8.0, "warning"), (-3_600.0, "failed")])
def test_skewed_clock(installation: Installation, offset: float, status: str) -> None:
    with run_answering_server(200, BALANCE, clock_offset=offset) as url:
        installation.change_config("accounts.yaml", f"{installation.sandbox.url}/runapi", url)
        finding = installation.run().get("clock")
    assert finding.status == status
    if status != "ok":
        direction = "behind" if offset > 0 else "ahead of"
        assert f"{direction} that of runapi." in finding.message


def test_answer_that_repeats_the_key_shows_none_of_it(installation: Installation) -> None:
    key = installation.environ["RUNAPI_API_KEY"].encode()
    with run_answering_server(401, b'{"error": {"code": "' + key + b'", "message": "' + key + b'"}}') as url:
        installation.change_config("accounts.yaml", f"{installation.sandbox.url}/runapi", url)
        assert installation.run().get("seller runapi").status == "failed"
