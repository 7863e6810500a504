"""Measures the seller client: requests per second, and µs of CPU each, with 16, 128 and 1,000 at once.

`make bench` runs it. Each request is a GET of a small JSON over persistent connections to a server in another process:
through the gateway's own client, and through httpx's own transport with the same number of connections. Rates are of
wall time, in one run on one machine. All requests have the same URL, like repeated polls.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import httpx
import uvloop

from gateway.catalogue import Seller, SellerAccount
from gateway.config.value_types import Secret
from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers import ADAPTERS
from providers.adapter import Answer, Call

SECONDS = 3.0
CONCURRENCY_LEVELS = (16, 128, 1_000)
# httpx needs 7 s for each round of a thousand; longer runs give the same result.
MAX_SECONDS = 10.0
BODY = b'{"id":"0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11","status":"running","progress":0.5}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
PATH = "/v1/runs/0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11"
SendRequest = Callable[[], Awaitable[bool]]


class StubServer(asyncio.Protocol):
    """A minimal server, since its cost is not measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(RESPONSE * data.count(b"\r\n\r\n"))


def run_server(port_pipe: Connection) -> None:
    async def serve_forever() -> None:
        server = await asyncio.get_running_loop().create_server(StubServer, "127.0.0.1", 0, backlog=2_048)
        port_pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve_forever())


async def measure_requests(send: SendRequest, concurrent: int) -> tuple[float, float]:
    """Returns requests per second, and µs of CPU each."""
    await asyncio.gather(*(send() for _ in range(concurrent)))
    started_at, cpu_started = time.perf_counter(), time.process_time()
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() - started_at < SECONDS:
            if not await send():
                raise SystemExit("a request failed")
            done += 1

    workers = [asyncio.create_task(worker()) for _ in range(concurrent)]
    await asyncio.wait(workers, timeout=MAX_SECONDS)
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_started
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return done / seconds, cpu_seconds / max(done, 1) * 1e6


async def measure_seller_client(port: int, concurrent: int) -> tuple[float, float]:
    account = SellerAccount(
        name="bench",
        base_url=f"http://127.0.0.1:{port}",
        api_key=Secret("key"),
        replay_trusted=False,
        callback_secrets=(),
        allows_private_addresses=True,
    )
    seller = Seller(name="bench", account=account, adapter=ADAPTERS["runflow_runs"])
    call, options = Call(method="GET", location=PATH), CallOptions(timeout_seconds=60.0)
    async with SellerClient(TransportPool(max_connections=concurrent)) as client:

        async def send() -> bool:
            return isinstance(await client.send(call, seller, options), Answer)

        return await measure_requests(send, concurrent)


async def measure_httpx(port: int, concurrent: int) -> tuple[float, float]:
    limits = httpx.Limits(max_connections=concurrent, max_keepalive_connections=concurrent)
    url, headers = f"http://127.0.0.1:{port}{PATH}", {"authorization": "Bearer key"}
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60.0) as client:

        async def send() -> bool:
            return (await client.get(url, headers=headers)).is_success

        return await measure_requests(send, concurrent)


def main() -> None:
    receiver, sender = multiprocessing.Pipe()
    server = multiprocessing.Process(target=run_server, args=(sender,), daemon=True)
    server.start()
    port = receiver.recv()
    print(f"{'':24}{'at once':>10}{'requests/s':>14}{'µs CPU each':>14}")
    try:
        for name, measure_client in (
            ("seller client", measure_seller_client),
            ("httpx's own transport", measure_httpx),
        ):
            for concurrent in CONCURRENCY_LEVELS:
                rate, each = uvloop.run(measure_client(port, concurrent))
                print(f"{name:24}{concurrent:>10,}{rate:>14,.0f}{each:>14,.0f}", flush=True)
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
