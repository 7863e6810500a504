"""What asking costs: requests per second, and µs of this process's CPU each, with 16, 128 and 1,000 at once.

`make bench` runs it. Each request is a GET of a small JSON over kept connections from a server in another process:
through the gateway's own client, and through httpx's own transport with the same number of connections allowed.
Rates are of wall time, in one run on one machine. All ask the same address, as polling does again and again.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import httpx
import uvloop

from gateway.catalogue import Account, Seller
from gateway.config.values import Secret
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers import ADAPTERS
from providers.spec import Answer, Call

SECONDS = 3.0
CONCURRENT = (16, 128, 1_000)
# httpx needs 7 s for each round of a thousand, so that more would only take longer to say the same.
PATIENCE_SECONDS = 10.0
BODY = b'{"id":"0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11","status":"running","progress":0.5}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
LOCATION = "/v1/runs/0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11"
Ask = Callable[[], Awaitable[bool]]


class Answering(asyncio.Protocol):
    """As little of a server as can be: its cost is not what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


def serve(announce: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=2_048)
        announce.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(forever())


async def measure(ask: Ask, concurrent: int) -> tuple[float, float]:
    """Requests per second, and µs of CPU each."""
    await asyncio.gather(*(ask() for _ in range(concurrent)))
    started, cpu = time.perf_counter(), time.process_time()
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() - started < SECONDS:
            if not await ask():
                raise SystemExit("a request failed")
            done += 1

    workers = [asyncio.create_task(worker()) for _ in range(concurrent)]
    await asyncio.wait(workers, timeout=PATIENCE_SECONDS)
    spent, used = time.perf_counter() - started, time.process_time() - cpu
    for one in workers:
        one.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return done / spent, used / max(done, 1) * 1e6


async def through_upstream(port: int, concurrent: int) -> tuple[float, float]:
    account = Account(
        name="bench",
        base_url=f"http://127.0.0.1:{port}",
        secret=Secret("key"),
        replay_trusted=False,
        callback_secrets=(),
        private=True,
    )
    seller = Seller(name="bench", account=account, adapter=ADAPTERS["runflow_runs"])
    call, exchange = Call(method="GET", location=LOCATION), Exchange(seconds=60.0)
    async with Upstream(Ways(most_connections=concurrent)) as upstream:

        async def ask() -> bool:
            return isinstance(await upstream.perform(call, seller, exchange), Answer)

        return await measure(ask, concurrent)


async def through_httpx(port: int, concurrent: int) -> tuple[float, float]:
    limits = httpx.Limits(max_connections=concurrent, max_keepalive_connections=concurrent)
    url, headers = f"http://127.0.0.1:{port}{LOCATION}", {"authorization": "Bearer key"}
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60.0) as client:

        async def ask() -> bool:
            return (await client.get(url, headers=headers)).is_success

        return await measure(ask, concurrent)


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port = ours.recv()
    print(f"{'':24}{'at once':>10}{'requests/s':>14}{'µs CPU each':>14}")
    try:
        for name, through in (("upstream", through_upstream), ("httpx's own transport", through_httpx)):
            for concurrent in CONCURRENT:
                rate, each = uvloop.run(through(port, concurrent))
                print(f"{name:24}{concurrent:>10,}{rate:>14,.0f}{each:>14,.0f}", flush=True)
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
