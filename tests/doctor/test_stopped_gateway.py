"""`doctor` before a gateway has ever started: settings, configuration, secrets, and what it leaves untouched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.doctor_runner import Installation
from tests.harness.cli_runner import run_command
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_runner import ROOT


def test_new_installation_is_checked_and_left_untouched(installation: Installation) -> None:
    report = installation.run(IGW_SECRET="", IGW_PUBLIC_URL="")
    assert {finding.check for finding in report.list_troubles()} == {"public url"}
    assert report.exit_code == 0
    assert [report.get(check).status for check in ("gateway", "prometheus")] == ["skipped", "skipped"]
    assert "which does not exist yet" in report.get("store").message
    assert "does not exist yet" in report.get("storage").message
    assert "will generate" in report.get("signing secret").message
    assert not installation.data.exists()


def test_generated_secret_that_is_too_short_fails(installation: Installation) -> None:
    installation.data.mkdir()
    (installation.data / "secret").write_text("abc")
    finding = installation.run(IGW_SECRET="").get("signing secret")
    assert (finding.status, "contains no secret of at least 16 characters" in finding.message) == ("failed", True)


def test_invalid_settings_are_listed(installation: Installation) -> None:
    report = installation.run(IGW_PORT="http", REDIS_URL="http://x")
    assert report.exit_code == 1
    assert {finding.check for finding in report.findings} == {"settings"}
    messages = [finding.message for finding in report.findings]
    assert "IGW_PORT must be a port, 0 to 65535" in messages
    assert any(message.startswith("REDIS_URL must begin with") for message in messages)


def test_invalid_configuration_fails_with_its_line_and_the_rest_is_checked(installation: Installation) -> None:
    installation.change_config("policies.yaml", "default: any", "default: nothing")
    report = installation.run()
    finding = report.get("configuration")
    assert finding.status == "failed"
    assert "policies.yaml:" in finding.message
    assert report.get("store").status == "ok"
    assert report.get("sellers").status == "skipped"


def test_missing_key_of_an_account_is_a_warning(installation: Installation) -> None:
    report = installation.run(RUNAPI_API_KEY="")
    assert report.get("seller runapi").status == "skipped"
    assert "not set: env:RUNAPI_API_KEY" in report.get("secrets").message
    warnings = [finding.message for finding in report.list_all("configuration") if finding.status == "warning"]
    assert any("env:RUNAPI_API_KEY not found: the account is disabled" in warning for warning in warnings)


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o440, "ok"), (0o644, "warning"), (0o620, "warning")])
def test_secret_file_that_others_may_read_or_change_is_a_warning(
    installation: Installation, tmp_path: Path, mode: int, status: str
) -> None:
    path = tmp_path / "runapi-key"
    path.write_text("sk-sandbox")
    path.chmod(mode)
    installation.change_config("accounts.yaml", "env:RUNAPI_API_KEY", f"file:{path}")
    report = installation.run()
    assert report.list_all("secrets")[-1].status == status
    assert report.get("seller runapi").status == "ok"
    if status == "warning":
        assert report.list_all("secrets")[-1].remedy == f"Run chmod 600 {path}"


@pytest.mark.parametrize(("open_files", "status"), [(512, "failed"), (2_048, "warning")])
def test_low_limit_of_open_files(installation: Installation, open_files: int, status: str) -> None:
    program = str(Path(sys.executable).parent / "image-gateway")
    script = f'ulimit -n {open_files} && exec "$@"'
    result = subprocess.run(
        ["/bin/bash", "-c", script, "bash", program, "doctor", "--json", *installation.list_options()],
        env={**get_clean_environ(), **installation.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert findings["limits"]["status"] == status
    assert f"A process may open {open_files:,} files" in findings["limits"]["message"]
    assert "LimitNOFILE=4096" in findings["limits"]["remedy"]


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_report_fits_the_terminal_and_says_what_to_change(installation: Installation, columns: int) -> None:
    installation.environ |= {"COLUMNS": str(columns), "RUNAPI_API_KEY": "wrong"}
    result = run_command("doctor", *installation.list_options(), folder=ROOT, **installation.environ)
    assert result.returncode == 1
    text, lines = result.stdout, result.stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    # Only what cannot be split is longer: a path, after the heading or on a line of its own.
    too_long = [line for line in lines if len(line) > columns and not line.split()[-1].startswith(("/", "http"))]
    assert too_long == []
    assert "→ Replace the key:" in " ".join(text.split())
    assert any(line.startswith("failed") and "seller runapi" in line for line in lines)
    assert lines[-1].startswith("1 failed, ")
    assert "wrong" not in text
