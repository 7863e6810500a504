"""Clients that disconnect: before sending, in the middle of a request, or while waiting for the response."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator

from tests.chaos.chaos_config import SELLERS
from tests.chaos.persistent_clients import make_job_body
from tests.harness.gateway_process import API_KEY

CONCURRENCY = 40
# Percentage of clients by the stage in which they disconnect. Orders are the most expensive.
STAGE_WEIGHTS = {"connected": 30, "half sent": 32, "waiting for a job": 30, "waiting for images": 8}


class DisconnectingClients:
    """Runs many clients. `disconnect_counts` counts disconnects by stage; the gateway may have answered before some."""

    def __init__(self, port: int, job_id: str, seed: int) -> None:
        self._port, self._job_id = port, job_id
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable
        self.disconnect_counts: Counter[str] = Counter()

    async def run_all(self, count: int) -> None:
        stages = self._random.choices(list(STAGE_WEIGHTS), list(STAGE_WEIGHTS.values()), k=count)
        numbered_stages = iter(enumerate(stages))
        await asyncio.gather(*(self._run_in_sequence(numbered_stages) for _ in range(CONCURRENCY)))

    async def _run_in_sequence(self, stages: Iterator[tuple[int, str]]) -> None:
        for number, stage in stages:
            await self._run_client(number, stage)

    async def _run_client(self, number: int, stage: str) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._build_request(number, stage))
            await writer.drain()
            await asyncio.sleep(self._random.uniform(0, 0.15))
            self.disconnect_counts[stage] += 1
        finally:
            if self._random.random() < 0.5:
                writer.transport.abort()
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    def _build_request(self, number: int, stage: str) -> bytes:
        match stage:
            case "connected":
                return b""
            case "waiting for a job":
                return _encode_request("GET", f"/v1/jobs/{self._job_id}?wait=60", b"")
        content = json.dumps(make_job_body(f"leaver-{number}", SELLERS[number % len(SELLERS)])).encode()
        request = _encode_request("POST", "/v1/images/generations", content)
        return request[: self._random.randrange(1, len(request))] if stage == "half sent" else request


def _encode_request(method: str, path: str, content: bytes) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {API_KEY}",
        "content-type: application/json",
        f"content-length: {len(content)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
