"""Measures stalls and memory while many clients get large images as base64. `python -m bench.base64_answers [clients]`

The sandbox delivers one job with four images, whose files are then replaced by 8 MiB each. All clients repeat the
job's request at once over connections of their own, so that their responses are sent together. A heartbeat runs in the
gateway's event loop every two milliseconds; a late beat during which the gateway used the processor is a stall.
"""

import base64
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.event_loop_stalls import HEARTBEAT_CHILD, read_late_heartbeats
from bench.pinned_processes import PinnedProcess
from tests.api.stored_jobs import FinishedJob
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway

CLIENT_COUNT, IMAGE_COUNT, IMAGE_BYTES = 50, 4, 8 << 20
MAX_STALL_MS, MAX_GROWTH_MB = 50.0, 300.0
SAMPLE_INTERVAL_SECONDS = 0.02
# All clients read in these processes, so that they do not share an interpreter with each other or with this program.
CLIENT_PROCESSES = 2


class MemorySampler:
    """Reads the resident memory of the gateway every 20 ms. The peak that Linux keeps would include the start."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway, self._is_over = gateway, threading.Event()
        self.peak_mb = 0.0

    @contextmanager
    def run(self) -> Iterator[None]:
        thread = threading.Thread(target=self._sample_until_over)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _sample_until_over(self) -> None:
        while not self._is_over.wait(SAMPLE_INTERVAL_SECONDS):
            self.peak_mb = max(self.peak_mb, self._gateway.read_memory_mb())


def read_responses(url: str, request: bytes, client_count: int) -> list[int]:
    """Sends the request over so many connections at once. Returns the sizes of the bodies."""
    with ThreadPoolExecutor(client_count) as threads:
        return list(threads.map(lambda _: read_body_size(url, request), range(client_count)))


def read_body_size(url: str, request: bytes) -> int:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        connection.sendall(request)
        head, _, start = connection.recv(65_536).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected response: {head.decode()}")
        size, buffer = len(start), bytearray(1 << 18)
        while count := connection.recv_into(buffer):
            size += count
        return size


def prepare_job(gateway: RunningGateway) -> FinishedJob:
    job = FinishedJob(gateway, IMAGE_COUNT, **{"idempotency-key": "bench"})
    contents = job.replace_images(*[IMAGE_BYTES] * IMAGE_COUNT)
    body = json.loads(job.repeat_request().content)
    if [base64.b64decode(image["b64_json"]) for image in body["data"]] != contents:
        raise SystemExit("the response does not contain the stored images")
    return job


def main(client_count: int = CLIENT_COUNT) -> None:
    with tempfile.TemporaryDirectory() as folder:
        heartbeat_file = Path(folder) / "beats"
        environ = {"HEARTBEAT": str(heartbeat_file)}
        with (
            run_sandboxed_gateway(Path(folder), environ=environ, child=HEARTBEAT_CHILD) as gateway,
            multiprocessing.Pool(CLIENT_PROCESSES) as pool,
        ):
            job = prepare_job(gateway)
            idle_mb, sampler = gateway.read_memory_mb(), MemorySampler(gateway)
            process = PinnedProcess(gateway.pid)
            started_at, cpu_before = time.monotonic(), process.read_cpu_seconds()
            with sampler.run():
                shares = [client_count // CLIENT_PROCESSES] * CLIENT_PROCESSES
                shares[0] += client_count % CLIENT_PROCESSES
                arguments = [(gateway.url, job.render_request(), share) for share in shares if share]
                sizes = [size for part in pool.starmap(read_responses, arguments) for size in part]
            seconds, cpu_seconds = time.monotonic() - started_at, process.read_cpu_seconds() - cpu_before
            beats = [beat for beat in read_late_heartbeats(heartbeat_file) if beat.arrived_at > started_at]
        if len(set(sizes)) != 1 or sizes[0] < IMAGE_COUNT * IMAGE_BYTES * 4 // 3:
            raise SystemExit(f"incomplete responses: {sorted(set(sizes))} bytes")
        stalls = sorted((beat.stall_ms for beat in beats), reverse=True)
        print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        print(f"{client_count} responses of {IMAGE_COUNT} images of {IMAGE_BYTES >> 20} MiB, {sizes[0]} bytes each")
        print(f"{seconds:.1f} s, of which the gateway used the processor for {cpu_seconds:.1f} s")
        print(f"longest stalls of the event loop: {', '.join(f'{stall:.1f} ms' for stall in stalls[:5])}")
        print(f"resident memory: {idle_mb:.0f} MB idle, {sampler.peak_mb - idle_mb:.0f} MB more at the peak")
        print(f"targets: at most {MAX_STALL_MS:g} ms and {MAX_GROWTH_MB:g} MB more")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
