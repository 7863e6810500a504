"""Runs `image-gateway doctor` on an installation, and reads its findings."""

import json
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.commands.doctor.doctor_finding import DoctorFinding
from tests.chaos import chaos_config
from tests.harness.cli_runner import run_command
from tests.harness.gateway_process import SECRET_ENVIRON
from tests.harness.gateway_runner import ROOT
from tests.harness.sandbox_runner import RunningSandbox

# Enough on a busy machine.
TIMEOUT_SECONDS = 50
# No secret may appear in any output.
CANARIES = {
    **SECRET_ENVIRON,
    "IGW_KEY_CHAOS": "igw_canary_team_key",
    "IGW_KEY_OTHER_TEAM": "igw_canary_other_key",
    "IGW_SECRET": "canary-signing-secret",
}


class DoctorReport(Struct, frozen=True):
    exit_code: int
    status: str
    findings: list[DoctorFinding]

    def get(self, check: str) -> DoctorFinding:
        """Returns the only finding of the check."""
        (found,) = self.list_all(check)
        return found

    def list_all(self, check: str) -> list[DoctorFinding]:
        return [finding for finding in self.findings if finding.check == check]

    def list_troubles(self) -> list[DoctorFinding]:
        return [finding for finding in self.findings if finding.status in ("warning", "failed")]


class Installation:
    """A configuration with all simulated sellers, a data folder, and the environment of `serve`."""

    def __init__(self, folder: Path, sandbox: RunningSandbox) -> None:
        self.sandbox = sandbox
        self.config = chaos_config.write_config(folder / "config", sandbox.url)
        self.data = folder / "data"
        self.environ = {**CANARIES, "IGW_PUBLIC_URL": "http://127.0.0.1:1"}

    def run(self, *arguments: str, **environ: str) -> DoctorReport:
        """Runs the command. No secret is in its output, and nothing is ordered."""
        variables = {**self.environ, **environ}
        options = ("--timeout", str(TIMEOUT_SECONDS), *self.list_options(), *arguments)
        result = run_command("doctor", "--json", *options, folder=ROOT, **variables)
        output = result.stdout + result.stderr
        assert [name for name, secret in variables.items() if name in CANARIES and secret and secret in output] == []
        assert "Traceback" not in output
        assert self.sandbox.list_charges() == []
        report = json.loads(result.stdout)
        findings = msgspec.convert(report["findings"], list[DoctorFinding])
        assert all(finding.remedy for finding in findings if finding.status in ("warning", "failed"))
        assert (result.returncode == 1) == (report["status"] == "failed")
        return DoctorReport(result.returncode, report["status"], findings)

    def list_options(self) -> list[str]:
        return ["--config", str(self.config), "--data", str(self.data)]

    def change_config(self, file: str, old: str, new: str) -> None:
        chaos_config.replace_text(self.config / file, old, new)
