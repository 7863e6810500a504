"""nginx of the compose file sends a request on to a replica that accepts it, also while another one ends."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy.compose_stack import run_nginx
from tests.harness.ports import reserve_port


class AnsweringReplica(ThreadingHTTPServer):
    """Answers with its status, and calls `on_request` before. `requests`: the methods that it received."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        self.status = status
        self.requests: list[str] = []
        self.on_request: Callable[[], None] | None = None
        super().__init__(("127.0.0.1", 0), _ReplicaHandler)

    @property
    def upstream(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def stop_listening(self) -> None:
        self.shutdown()
        self.socket.close()


class _ReplicaHandler(BaseHTTPRequestHandler):
    server: AnsweringReplica

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        replica = self.server
        replica.requests.append(self.command)
        if replica.on_request is not None:
            replica.on_request()
        body = b"answer of a replica"
        self.send_response(replica.status)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *arguments: object) -> None:
        """The tests look at the answers alone."""


@contextmanager
def run_replica(status: int) -> Iterator[AnsweringReplica]:
    replica = AnsweringReplica(status)
    thread = threading.Thread(target=replica.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield replica
    finally:
        replica.shutdown()
        thread.join()
        replica.server_close()


def post(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/jobs", json={}, trust_env=False, timeout=30)


def test_request_that_meets_a_replica_twice_while_it_ends_is_served_by_the_other(tmp_path: Path) -> None:
    """The replica refuses the request. Another request takes the turn of the other replica, and the first one ends."""
    with run_replica(503) as ending, run_replica(200) as other:
        with run_nginx(tmp_path / "nginx", reserve_port(), [ending.upstream, other.upstream]) as url:

            def take_turn_and_end() -> None:
                assert httpx.get(f"{url}/v1/models", trust_env=False, timeout=30).status_code == 200
                ending.stop_listening()

            ending.on_request = take_turn_and_end
            assert post(url).status_code == 200
        assert (ending.requests, other.requests) == (["POST"], ["GET", "POST"])


@pytest.mark.parametrize("draining", [0, 1])
def test_request_is_served_by_the_replica_that_does_not_drain(tmp_path: Path, draining: int) -> None:
    with run_replica(503 if draining == 0 else 200) as first, run_replica(503 if draining == 1 else 200) as second:
        with run_nginx(tmp_path / "nginx", reserve_port(), [first.upstream, second.upstream]) as url:
            assert [post(url).status_code for _ in range(6)] == [200] * 6


def test_client_gets_the_answer_of_the_replicas_if_all_drain(tmp_path: Path) -> None:
    with run_replica(503) as first, run_replica(503) as second:
        with run_nginx(tmp_path / "nginx", reserve_port(), [first.upstream, second.upstream]) as url:
            response = post(url)
        assert (response.status_code, response.text) == (503, "answer of a replica")
        assert {*first.requests, *second.requests} == {"POST"}
