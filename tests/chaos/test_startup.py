"""Signals during startup, and the addresses that a gateway listens on."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.wait import wait_for_value, wait_until

HANDLER_BEFORE_IMPORTS = """
import signal, sys
sys.argv, sys.modules["click"] = ["image-gateway", *sys.argv[1:]], None
try:
    import gateway.cli
except ImportError:
    print(signal.getsignal(signal.SIGHUP).name)
"""


# As inherited from a shell, and from `nohup`.
EACH_INHERITED_HANDLER = pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])


@EACH_INHERITED_HANDLER
@pytest.mark.parametrize("command", ["serve", "check"])
def test_serve_ignores_sighup_before_any_import(command: str, inherited: signal.Handlers) -> None:
    """Other commands handle the signal as they inherited it."""
    completed = subprocess.run(
        [sys.executable, "-c", HANDLER_BEFORE_IMPORTS, command],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, inherited),
    )
    assert completed.stdout.strip() == (signal.SIG_IGN if command == "serve" else inherited).name


@pytest.mark.one_in(2)
@EACH_INHERITED_HANDLER
def test_sighup_during_startup_does_not_stop_the_gateway_but_reloads(
    tmp_path: Path, inherited: signal.Handlers
) -> None:
    """SIGHUP reloads the configuration during startup and later, also under `nohup`."""
    with InheritingGateway(tmp_path, inherited) as gateway:
        gateway.launch()
        wait_until(lambda: gateway.read_log() or handles_sighup(gateway.pid), "the process handles SIGHUP")
        gateway.wait_until_listening(on_poll=lambda: gateway.send_signal(signal.SIGHUP))
        wait_until(lambda: count_reloads(gateway), "the configuration is reloaded", gateway.check_alive)
        before = count_reloads(gateway)
        wait_for_value(
            lambda: count_reloads(gateway),
            lambda count: count > before,
            "the configuration is reloaded again",
            lambda: gateway.send_signal(signal.SIGHUP),
        )
        gateway.check_alive()


class InheritingGateway(RunningGateway):
    """A gateway that inherits a handler of SIGHUP."""

    def __init__(self, folder: Path, inherited: signal.Handlers) -> None:
        super().__init__(folder, start_method="exec")
        self._inherited = inherited

    def prepare_process(self) -> None:
        super().prepare_process()
        signal.signal(signal.SIGHUP, self._inherited)


def count_reloads(gateway: RunningGateway) -> int:
    return gateway.read_log().count("config reloaded")


def handles_sighup(pid: int) -> bool:
    """Whether the process ignores or catches SIGHUP."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"Sig(?:Ign|Cgt):\s+([0-9a-f]+)", status)
    return any(int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in masks)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_gateway_listens_on_ipv6_addresses(tmp_path: Path, host: str) -> None:
    with run_sandboxed_gateway(tmp_path, "--allow-remote", environ={"IGW_HOST": host}) as gateway:
        assert gateway.url.startswith(f"http://[{host}]:")
        assert gateway.http.get("/readyz").status_code == 200
        port = int(gateway.url.rpartition(":")[2])
        if host == "::":
            socket.create_connection(("127.0.0.1", port), timeout=60).close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_startup_error_names_an_ipv6_address_in_use_with_its_port(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        completed = run_command("serve", "--sandbox", "--host", "::1", "--port", str(port), "--data", str(tmp_path))
    assert completed.returncode == 1
    assert f"cannot listen on [::1]:{port}" in completed.stderr
