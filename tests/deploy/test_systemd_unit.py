"""The unit of systemd is valid and hardened, and its command runs with its environment."""

import ctypes
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings import ENV_OPTIONS, load_settings
from tests.deploy.dockerfile_instructions import ROOT
from tests.deploy.systemd_unit import PROGRAM, UNIT, read_environ, read_unit
from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_process import API_KEY, GatewayProcess
from tests.harness.gateway_runner import CONFIG

# Ten times the level that `systemd-analyze security` prints. Up to 2.0 is its best rating.
MAX_EXPOSURE = 20
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


def run_systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_systemd_accepts_every_line(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name
    # It also checks that the program exists.
    installed.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    result = run_systemd_analyze("verify", str(installed))
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
    installed.write_text(installed.read_text().replace("PrivateTmp=yes", "PrivateTemp=yes"))
    assert "PrivateTemp" in run_systemd_analyze("verify", str(installed)).stderr


def test_systemd_rates_the_unit_as_hardened() -> None:
    result = run_systemd_analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(UNIT))
    assert result.returncode == 0, result.stdout


def test_process_drains_before_it_is_killed() -> None:
    (timeout,) = read_unit()["TimeoutStopSec"]
    settings = load_settings(read_environ())
    assert int(timeout) > settings.drain_seconds + 10
    assert read_unit()["KillSignal"] == ["SIGTERM"]
    assert read_unit()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_settings_exist_and_data_is_where_the_unit_may_write() -> None:
    environ = read_environ()
    known = {option.name for option in ENV_OPTIONS.values()} | {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    assert set(environ) <= known
    assert environ["IGW_DATA"] == f"/var/lib/{read_unit()['StateDirectory'][0]}"


class UnitProcess(GatewayProcess):
    """The unit's command and environment, with those of its restrictions that a process can set for itself."""

    def make_program(self) -> list[str]:
        program, *_ = shlex.split(read_unit()["ExecStart"][0])
        assert program == PROGRAM
        return [str(ROOT / ".venv" / "bin" / "image-gateway")]

    def make_arguments(self) -> list[str]:
        return [*shlex.split(read_unit()["ExecStart"][0])[1:], "--sandbox", "--port", str(self.port)]

    def make_environ(self) -> dict[str, str]:
        folders = {"IGW_CONFIG": str(CONFIG), "IGW_DATA": str(self.folder / "data")}
        return {"PATH": os.environ["PATH"], **read_environ(), **folders}

    def prepare_process(self) -> None:
        super().prepare_process()
        os.umask(int(read_unit()["UMask"][0], 8))
        assert _PRCTL(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        # MemoryDenyWriteExecute.
        assert _PRCTL(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0


def supports_memory_restriction() -> bool:
    """Whether the kernel has what MemoryDenyWriteExecute does as a setting of a process: since Linux 6.3."""
    return bool(_PRCTL(PR_SET_MDWE + 1, 0, 0, 0, 0) >= 0)


@pytest.mark.thorough
@pytest.mark.skipif(not supports_memory_restriction(), reason="the kernel is older than 6.3")
def test_command_draws_picture_without_executable_writable_memory(tmp_path: Path) -> None:
    with UnitProcess(tmp_path, child=NO_CHANGES, start_method="exec") as gateway:
        gateway.start()
        with gateway.make_client(api_key=API_KEY) as client:
            body = {"prompt": "a lighthouse", "quality": "low", "output_format": "webp"}
            response = client.post("/v1/images/generations", json=body)
        assert response.status_code == 200, response.text
        gateway.stop()
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "data").iterdir()}
    assert set(modes.values()) == {0}, modes
