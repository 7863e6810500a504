"""The first second of a gateway, and where it listens."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.gateways import until
from tests.serving import ROOT, serving

BEFORE_ANYTHING = """
import signal, sys
sys.argv, sys.modules["click"] = ["image-gateway", *sys.argv[1:]], None
try:
    import gateway.cli
except ImportError:
    print(signal.getsignal(signal.SIGHUP).name)
"""


# As a shell starts a program, and as `nohup` does.
INHERITED = pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])


@INHERITED
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_gateway_ignores_sighup_before_it_imports_anything(command: str, inherited: signal.Handlers) -> None:
    """Other commands handle the signal as they inherited it."""
    said = subprocess.run(
        [sys.executable, "-c", BEFORE_ANYTHING, command],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, inherited),
    )
    assert said.stdout.strip() == (signal.SIG_IGN if command == "serve" else inherited).name


@INHERITED
def test_gateway_that_gets_sighup_while_starting_starts_and_reloads(tmp_path: Path, inherited: signal.Handlers) -> None:
    """And again when it runs: also under `nohup`, SIGHUP says to read the configuration, and never to end."""
    command = [sys.executable, "-m", "gateway.cli", "serve", "--sandbox", "--port", "0", "--data", str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGHUP, inherited)
        )

    def said() -> str:
        assert process.poll() is None, (tmp_path / "log").read_text()
        return (tmp_path / "log").read_text()

    try:
        until(lambda: said() or minds_hangups(process.pid), "it minds them")
        until(lambda: "listening on" in said(), "it listens", lambda: process.send_signal(signal.SIGHUP))
        until(lambda: "reloaded" in said(), "it reads its configuration again")
        before = said().count("reloaded")
        until(lambda: said().count("reloaded") > before, "and again", lambda: process.send_signal(signal.SIGHUP))
    finally:
        process.kill()
        process.wait()


def minds_hangups(pid: int) -> bool:
    """Whether its process has been told what to do about them."""
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
def test_it_listens_on_addresses_of_ipv6(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, "--allow-remote", environ={"IGW_HOST": host}) as gateway:
        assert gateway.url.startswith(f"http://[{host}]:")
        assert gateway.http.get("/readyz").status_code == 200
        port = int(gateway.url.rpartition(":")[2])
        if host == "::":
            socket.create_connection(("127.0.0.1", port), timeout=10).close()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6_that_is_taken_is_told_with_its_port(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        command = ["serve", "--sandbox", "--host", "::1", "--port", str(port), "--data", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *command], capture_output=True, text=True, check=False, cwd=ROOT
        )
    assert done.returncode == 1
    assert f"[::1]:{port} cannot be listened on" in done.stderr
