"""How long bodies that are made to hurt keep everybody else waiting. `python -m bench.hostile_bodies [bodies]`

One caller sends them to a running gateway, one after the other and as fast as they are refused; another process asks
`/livez` all the while, and the gateway's event loop has a heart that should beat every two milliseconds. A beat that is
late while the gateway itself was at work is a stall; one that is late while other programs had the processor is not.
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

from tests.api.hostile_bodies import HOSTILE, SIZES
from tests.serving import KEY, serving

BODIES = 200
QUIET_SECONDS = 5.0
TARGET_MS = 50.0
ROUTES = ("/v1/jobs", "/v1/images/generations")
PING = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PAUSE_SECONDS = 0.002


class Stalls(Struct, frozen=True):
    """Milliseconds that `/livez` took. `worst_body` was being sent when it took longest."""

    asked: int
    p99: float
    longest: float
    worst_body: str = ""

    def shown(self) -> str:
        during = f" (during {self.worst_body})" if self.worst_body else ""
        return f"{self.asked} questions, 99 % within {self.p99:.1f} ms, longest {self.longest:.1f} ms{during}"


class Beat(Struct, frozen=True):
    """One that came late: when, by how many milliseconds, and how many of these the gateway itself was at work."""

    at: float
    late: float
    used: float

    @property
    def stall(self) -> float:
        return min(self.late, self.used)


class Sent(Struct, frozen=True):
    """A body that was sent: when it began and ended, and what the gateway said."""

    name: str
    began: float
    ended: float
    status: int


def ping(url: str, until: Callable[[], bool]) -> list[tuple[float, float]]:
    """When each question was asked, and how many seconds it took."""
    took = []
    with _connected(url) as connection:
        while not until():
            began = time.monotonic()
            connection.sendall(PING)
            connection.recv(65_536)
            took.append((began, time.monotonic() - began))
            time.sleep(PAUSE_SECONDS)
    return took


def send(url: str, route: str, name: str, body: bytes) -> Sent:
    began = time.monotonic()
    head = (
        f"POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with _connected(url) as connection:
        try:
            connection.sendall(head.encode())
            connection.sendall(body)
        except OSError:
            # Refused before all of it was sent: the answer is there to be read.
            pass
        status = _status(connection)
    return Sent(name, began, time.monotonic(), status)


def _status(connection: socket.socket) -> int:
    try:
        return int(connection.recv(65_536).split()[1])
    except (OSError, IndexError):
        return 0


def send_all(url: str, count: int, sent: "multiprocessing.SimpleQueue[Sent | None]", start: Event) -> None:
    bodies = [(name, size) for size in SIZES for name in HOSTILE]
    start.wait()
    for number in range(count):
        name, size = bodies[number * len(bodies) // count]
        body = HOSTILE[name](size)
        sent.put(send(url, ROUTES[number % 2], f"{name}, {len(body) / (1 << 20):.2f} MiB", body))
    sent.put(None)


def measure(url: str, count: int) -> tuple[Stalls, list[Sent]]:
    queue: multiprocessing.SimpleQueue[Sent | None] = multiprocessing.SimpleQueue()
    start, sent = multiprocessing.Event(), list[Sent]()
    sender = multiprocessing.Process(target=send_all, args=(url, count, queue, start), daemon=True)
    sender.start()

    def is_over() -> bool:
        while not queue.empty():
            if (one := queue.get()) is None:
                return True
            sent.append(one)
        return False

    start.set()
    took = ping(url, is_over)
    sender.join()
    worst = max(took, key=lambda one: one[1])
    during = [one.name for one in sent if one.began <= worst[0] + worst[1] and one.ended >= worst[0]]
    return _stalls(took, ", ".join(during)), sent


def _stalls(took: list[tuple[float, float]], worst_body: str = "") -> Stalls:
    ordered = sorted(seconds * 1000 for _, seconds in took)
    return Stalls(len(ordered), ordered[len(ordered) * 99 // 100], ordered[-1], worst_body)


def _connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def late_beats(path: Path) -> list[Beat]:
    return [Beat(*map(float, line.split())) for line in path.read_text().splitlines()]


def main(count: int = BODIES) -> None:
    with tempfile.TemporaryDirectory() as folder:
        beats = Path(folder) / "beats"
        environ = {"HEARTBEAT": str(beats)}
        with serving(Path(folder), environ=environ, program="bench.with_heartbeat") as gateway:
            end = time.monotonic() + QUIET_SECONDS
            quiet = _stalls(ping(gateway.url, lambda: time.monotonic() > end))
            print(f"nothing sent: {quiet.shown()}")
            stalls, sent = measure(gateway.url, count)
        print(f"{len(sent)} hostile bodies: {stalls.shown()}")
        _print_stalls([beat for beat in late_beats(beats) if beat.at > end], sent)
        print(f"answers: {dict(sorted(Counter(one.status for one in sent).items()))}")
        slowest = max(sent, key=lambda one: one.ended - one.began)
        print(f"slowest answer: {slowest.ended - slowest.began:.2f} s for {slowest.name}")


def _print_stalls(beats: list[Beat], sent: list[Sent]) -> None:
    print(f"stalls of the event loop of more than 10 ms: {sum(beat.stall > 10 for beat in beats)}; the longest of all:")
    for beat in sorted(beats, key=lambda beat: -beat.stall)[:5]:
        during = [one.name for one in sent if one.began <= beat.at and one.ended >= beat.at - beat.late / 1000]
        print(f"  {beat.stall:5.1f} ms (late by {beat.late:.1f} ms) during {', '.join(during)}")
    print(f"at most {TARGET_MS:g} ms are wanted")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
