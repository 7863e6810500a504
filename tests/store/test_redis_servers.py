"""The Redis servers of the tests lose no data, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.wait import wait_until
from tests.store import redis_servers

START_SERVER_CODE = """
import sys, time
from pathlib import Path
from tests.store import redis_servers
server = redis_servers.RedisServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.one_in(4)
@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("kind", [redis_servers.run_single_server, redis_servers.run_cluster_server])
def test_restarted_server_keeps_its_port_and_data(tmp_path: Path, kind: type, end: str) -> None:
    with kind(tmp_path) as server:
        port, pid = server.port, server.pid
        assert server.execute("SET", "name", "value") in (True, b"OK")
        getattr(server, end)()
        server.start()
        assert (server.port, server.execute("GET", "name")) == (port, b"value")
        assert server.pid != pid


def test_only_cluster_server_runs_in_cluster_mode(tmp_path: Path) -> None:
    with (
        redis_servers.run_single_server(tmp_path / "single") as single,
        redis_servers.run_cluster_server(tmp_path / "clustered") as clustered,
    ):
        assert single.execute("INFO", "server")["redis_mode"] == "standalone"
        assert clustered.execute("INFO", "server")["redis_mode"] == "cluster"


def test_server_is_stopped_at_the_end_of_its_block(tmp_path: Path) -> None:
    with redis_servers.run_single_server(tmp_path) as server:
        pid = server.pid
        assert is_alive(pid)
    assert not is_alive(pid)


def test_server_ends_with_its_parent_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_SERVER_CODE, str(tmp_path)]
    with subprocess.Popen(command, cwd=redis_servers.REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server has ended")


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
