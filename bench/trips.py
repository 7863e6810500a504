"""Counts the Python calls of one request on its way through the gateway. `python -m bench.trips [--tree]`

A gateway runs in this process, with its HTTP server and SQLite. A client posts generations; a seller answers each order
with one small PNG as base64. Only calls of functions in `gateway/` and `providers/` in the thread of the event loop
count, each coroutine once. A return is a call into a file that the trip had left before.

Periodic tasks may run during a request, so the trip with the fewest calls of several requests is shown.
"""

import argparse
import asyncio
import base64
import dis
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from threading import Thread
from types import CodeType, FrameType
from typing import Any

import httpx
import uvicorn
from msgspec import Struct

from bench.end_to_end import API_KEY, write_config
from gateway.api.http_protocol import make_protocol_class
from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.reloader import ConfigReloader
from gateway.gateway_lifecycle import Gateway
from gateway.settings import load_settings
from providers import ADAPTERS
from tests.harness.ports import reserve_port
from tests.harness.sample_images import make_image
from tests.harness.wait import wait_until_async

ROOT = Path(__file__).parent.parent
COUNTED_FOLDERS = (f"{ROOT}/gateway/", f"{ROOT}/providers/")
REQUEST_COUNT, WARM_UP_COUNT = 15, 5
# The functions whose call begins or ends a trip.
FIRST_COMMIT = ("gateway/store/sqlite/store.py", "commit")
WORKER_START = ("gateway/engine/job_worker.py", "run")
DELIVERED = ("gateway/engine/commit_events.py", "_make_job_ended_event")
RESPONSE_SENT = ("gateway/api/request_lifecycle.py", "build_completed_event")


class TracedCall(Struct, frozen=True):
    """A call of a function. `depth`: how many counted functions are on the stack above it."""

    file: str
    function: str
    depth: int

    @property
    def is_commit(self) -> bool:
        return (self.file, self.function) == FIRST_COMMIT


class RequestTrip(Struct, frozen=True):
    """The calls from one point of a request to another."""

    name: str
    calls: Sequence[TracedCall]

    @property
    def files(self) -> Sequence[str]:
        return sorted({call.file for call in self.calls})

    @property
    def return_count(self) -> int:
        """How often the trip comes back to a file that it had left."""
        visits = [file for file, _ in groupby(call.file for call in self.calls)]
        return len(visits) - len(self.files)

    def __str__(self) -> str:
        return f"{self.name:32}{len(self.calls):>7}{len(self.files):>7}{self.return_count:>9}"


class CallTracer:
    """Records the counted calls of the current thread between `start` and `stop`."""

    def __init__(self) -> None:
        self.calls: list[TracedCall] = []

    def start(self) -> None:
        self.calls = []
        sys.setprofile(self._on_event)

    def stop(self) -> Sequence[TracedCall]:
        sys.setprofile(None)
        return self.calls

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(COUNTED_FOLDERS) and frame.f_lasti == _find_start(code):
            file = code.co_filename.removeprefix(f"{ROOT}/")
            self.calls.append(TracedCall(file, code.co_name, _count_counted_callers(frame)))


@lru_cache(maxsize=10_000)
def _find_start(code: CodeType) -> int:
    """Returns the offset at which the function starts. A coroutine or generator that continues is further on."""
    return next(instruction.offset for instruction in dis.get_instructions(code) if instruction.opname == "RESUME")


def _count_counted_callers(frame: FrameType) -> int:
    depth, caller = 0, frame.f_back
    while caller is not None:
        depth += caller.f_code.co_filename.startswith(COUNTED_FOLDERS)
        caller = caller.f_back
    return depth


def list_trips(calls: Sequence[TracedCall]) -> Sequence[RequestTrip]:
    commit = next(index for index, call in enumerate(calls) if call.is_commit)
    start = _find_call(calls, WORKER_START)
    delivered = _find_call(calls, DELIVERED)
    sent = _find_call(calls, RESPONSE_SENT)
    return (
        RequestTrip("bytes to first commit", calls[:commit]),
        RequestTrip("worker start to delivered", calls[start:delivered]),
        RequestTrip("bytes to response sent", calls[: sent + 1]),
    )


def _find_call(calls: Sequence[TracedCall], function: tuple[str, str]) -> int:
    return next(index for index, call in enumerate(calls) if (call.file, call.function) == function)


# --- the gateway, its client and its seller


class _Seller(BaseHTTPRequestHandler):
    """Answers every order with one PNG."""

    protocol_version = "HTTP/1.1"
    response = json.dumps(
        {"created": 1, "data": [{"b64_json": base64.b64encode(make_image(1024, 1024, mode="1")).decode()}]}
    ).encode()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(self.response)))
        self.end_headers()
        self.wfile.write(self.response)

    def log_message(self, format: str, *arguments: object) -> None:
        """Prints nothing."""


@contextmanager
def run_seller() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Seller) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def trace_requests(gateway: Gateway, port: int) -> Sequence[Sequence[TracedCall]]:
    """Runs the gateway in this thread, and returns the calls of each request."""
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app,
            port=port,
            http=make_protocol_class(gateway.emit, gateway.timing.api),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
        )
    )
    gateway.set_base_url(f"http://127.0.0.1:{port}", is_reachable_by_sellers=False)
    serving = asyncio.create_task(server.serve())
    await wait_until_async(lambda: server.started, "the gateway listens")
    tracer = CallTracer()
    traces = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        for number in range(WARM_UP_COUNT + REQUEST_COUNT):
            tracer.start()
            await asyncio.to_thread(_post_generation, client, number)
            traces.append(tracer.stop())
            await asyncio.sleep(0.05)
    server.should_exit = True
    await serving
    return traces[WARM_UP_COUNT:]


def _post_generation(client: httpx.Client, number: int) -> None:
    body = {"model": "gpt-image-2", "prompt": f"A lighthouse at dusk, {number}", "size": "1024x1024", "n": 1}
    headers = {"authorization": f"Bearer {API_KEY}"}
    client.post("/v1/images/generations", json=body, headers=headers).raise_for_status()


def trace_gateway() -> Sequence[Sequence[TracedCall]]:
    with tempfile.TemporaryDirectory() as folder, run_seller() as seller_url:
        port, config = reserve_port(), write_config(Path(folder) / "config", seller_url)
        secrets = secrets_from_env({"STUB_KEY": "sk-bench", "IGW_KEY_BENCH": API_KEY})
        settings = load_settings({}, config=config, data=Path(folder) / "data", host="127.0.0.1", port=port)
        gateway = Gateway(
            settings,
            lambda on_reload: ConfigReloader(settings.config, secrets, ADAPTERS, on_reload),
            lambda catalogue, logs: catalogue,
        )
        with closing(gateway.logs):
            return asyncio.run(trace_requests(gateway, port))


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the calls of one request on its way through the gateway.")
    parser.add_argument("--tree", action="store_true", help="print every call, indented by its depth")
    options = parser.parse_args()
    all_trips = [list_trips(calls) for calls in trace_gateway()]
    shortest_trips = [min(trips, key=lambda trip: len(trip.calls)) for trips in zip(*all_trips, strict=True)]
    print(f"{'trip':32}{'calls':>7}{'files':>7}{'returns':>9}")
    for trip in shortest_trips:
        print(trip)
    if options.tree:
        for trip in shortest_trips[:2]:
            print(f"\n{trip.name}")
            for call in trip.calls:
                print(f"{'  ' * call.depth}{call.function}  {call.file}")


if __name__ == "__main__":
    main()
