"""The servers that other tests lean on: they lose nothing, and nothing is left of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store import servers

START = """
import sys, time
from pathlib import Path
from tests.store import servers
server = servers.Server(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("kind", [servers.single, servers.clustered])
def test_a_server_comes_back_where_it_was_with_all_it_had(tmp_path: Path, kind: type, end: str) -> None:
    with kind(tmp_path) as server:
        port, pid = server.port, server.pid
        assert server.cli("SET", "name", "value") in (True, b"OK")
        getattr(server, end)()
        server.start()
        assert (server.port, server.cli("GET", "name")) == (port, b"value")
        assert server.pid != pid


def test_the_clustered_one_is_a_cluster_and_the_single_one_is_not(tmp_path: Path) -> None:
    with servers.single(tmp_path / "single") as single, servers.clustered(tmp_path / "clustered") as clustered:
        assert single.cli("INFO", "server")["redis_mode"] == "standalone"
        assert clustered.cli("INFO", "server")["redis_mode"] == "cluster"


def test_nothing_is_left_of_a_server_when_its_test_is_over(tmp_path: Path) -> None:
    with servers.single(tmp_path) as server:
        pid = server.pid
        assert is_alive(pid)
    assert not is_alive(pid)


def test_a_server_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path)]
    with subprocess.Popen(command, cwd=servers.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < ends, "it lives on"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """What has ended and is not yet fetched by anybody is not alive either."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
