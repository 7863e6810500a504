"""Measures how long hostile request bodies block the event loop. `python -m bench.event_loop_stalls [bodies]`

One client sends them to a running gateway, one after another; another process requests `/livez` meanwhile, and a
heartbeat runs in the gateway's event loop every two milliseconds. A late beat during which the gateway used the
processor is a stall; a late beat during which other programs used it is not.
"""

import multiprocessing
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from msgspec import Struct

from tests.api.hostile_bodies import BODY_SIZES, HOSTILE_BODIES
from tests.harness.child_spec import ChildSpec, Hook
from tests.harness.gateway_runner import API_KEY, run_sandboxed_gateway

BODY_COUNT = 200
QUIET_SECONDS = 5.0
MAX_STALL_MS = 50.0
ROUTES = ("/v1/jobs", "/v1/images/generations")
PING_REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PING_INTERVAL_SECONDS = 0.002

HEARTBEAT_CHILD = ChildSpec(hooks=(Hook("bench.gateway_with_heartbeat:install_heartbeat"),))


class PingLatency(Struct, frozen=True):
    """Milliseconds of requests to `/livez`. `worst_body` was being sent during the slowest one."""

    ping_count: int
    p99_ms: float
    max_ms: float
    worst_body: str = ""

    def render(self) -> str:
        during = f" (during {self.worst_body})" if self.worst_body else ""
        return f"{self.ping_count} pings, 99 % within {self.p99_ms:.1f} ms, longest {self.max_ms:.1f} ms{during}"


class LateHeartbeat(Struct, frozen=True):
    """One late beat: its time, its delay, and the CPU time of the gateway meanwhile, in milliseconds."""

    arrived_at: float
    late_ms: float
    cpu_ms: float

    @property
    def stall_ms(self) -> float:
        return min(self.late_ms, self.cpu_ms)


class SentBody(Struct, frozen=True):
    """A body that was sent: start, end, and the status of the response."""

    name: str
    started_at: float
    ended_at: float
    status: int


def ping_until(url: str, is_over: Callable[[], bool]) -> list[tuple[float, float]]:
    """Pings until `is_over`. Returns the start and the duration of each ping."""
    pings = []
    with _open_connection(url) as connection:
        while not is_over():
            started_at = time.monotonic()
            connection.sendall(PING_REQUEST)
            connection.recv(65_536)
            pings.append((started_at, time.monotonic() - started_at))
            time.sleep(PING_INTERVAL_SECONDS)
    return pings


def send_body(url: str, route: str, name: str, body: bytes) -> SentBody:
    started_at = time.monotonic()
    head = (
        f"POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with _open_connection(url) as connection:
        try:
            connection.sendall(head.encode())
            connection.sendall(body)
        except OSError:
            # Rejected before all of it was sent: the response can still be read.
            pass
        status = _read_status(connection)
    return SentBody(name, started_at, time.monotonic(), status)


def _read_status(connection: socket.socket) -> int:
    try:
        return int(connection.recv(65_536).split()[1])
    except (OSError, IndexError):
        return 0


def send_bodies(url: str, count: int, queue: "multiprocessing.SimpleQueue[SentBody | None]", start: Event) -> None:
    bodies = [(name, size) for size in BODY_SIZES for name in HOSTILE_BODIES]
    start.wait()
    for number in range(count):
        name, size = bodies[number * len(bodies) // count]
        body = HOSTILE_BODIES[name](size)
        queue.put(send_body(url, ROUTES[number % 2], f"{name}, {len(body) / (1 << 20):.2f} MiB", body))
    queue.put(None)


def measure_stalls(url: str, count: int) -> tuple[PingLatency, list[SentBody]]:
    queue: multiprocessing.SimpleQueue[SentBody | None] = multiprocessing.SimpleQueue()
    start, sent = multiprocessing.Event(), list[SentBody]()
    sender = multiprocessing.Process(target=send_bodies, args=(url, count, queue, start), daemon=True)
    sender.start()

    def is_over() -> bool:
        while not queue.empty():
            if (body := queue.get()) is None:
                return True
            sent.append(body)
        return False

    start.set()
    pings = ping_until(url, is_over)
    sender.join()
    slowest = max(pings, key=lambda ping: ping[1])
    during = [body.name for body in sent if body.started_at <= slowest[0] + slowest[1] and body.ended_at >= slowest[0]]
    return _summarize_pings(pings, ", ".join(during)), sent


def _summarize_pings(pings: list[tuple[float, float]], worst_body: str = "") -> PingLatency:
    latencies_ms = sorted(seconds * 1000 for _, seconds in pings)
    return PingLatency(len(latencies_ms), latencies_ms[len(latencies_ms) * 99 // 100], latencies_ms[-1], worst_body)


def _open_connection(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def read_late_heartbeats(path: Path) -> list[LateHeartbeat]:
    return [LateHeartbeat(*map(float, line.split())) for line in path.read_text().splitlines()]


def main(count: int = BODY_COUNT) -> None:
    with tempfile.TemporaryDirectory() as folder:
        heartbeat_file = Path(folder) / "beats"
        environ = {"HEARTBEAT": str(heartbeat_file)}
        with run_sandboxed_gateway(Path(folder), environ=environ, child=HEARTBEAT_CHILD) as gateway:
            end = time.monotonic() + QUIET_SECONDS
            quiet = _summarize_pings(ping_until(gateway.url, lambda: time.monotonic() > end))
            print(f"without load: {quiet.render()}")
            stalls, sent = measure_stalls(gateway.url, count)
        print(f"{len(sent)} hostile bodies: {stalls.render()}")
        _print_stalls([beat for beat in read_late_heartbeats(heartbeat_file) if beat.arrived_at > end], sent)
        print(f"responses: {dict(sorted(Counter(body.status for body in sent).items()))}")
        slowest = max(sent, key=lambda body: body.ended_at - body.started_at)
        print(f"slowest response: {slowest.ended_at - slowest.started_at:.2f} s for {slowest.name}")


def _print_stalls(beats: list[LateHeartbeat], sent: list[SentBody]) -> None:
    print(
        f"stalls of the event loop of more than 10 ms: {sum(beat.stall_ms > 10 for beat in beats)}; the longest of all:"
    )
    for beat in sorted(beats, key=lambda beat: -beat.stall_ms)[:5]:
        during = [
            body.name
            for body in sent
            if body.started_at <= beat.arrived_at and body.ended_at >= beat.arrived_at - beat.late_ms / 1000
        ]
        print(f"  {beat.stall_ms:5.1f} ms (late by {beat.late_ms:.1f} ms) during {', '.join(during)}")
    print(f"target: at most {MAX_STALL_MS:g} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
