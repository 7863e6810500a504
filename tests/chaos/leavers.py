"""Clients that leave: before they have said anything, in the midst of a request, or while they wait for its answer."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator

from tests.chaos.clients import body
from tests.chaos.configs import SELLERS
from tests.chaos.gateways import KEY

AT_ONCE = 40
# How many of a hundred leave when; who orders costs more than the others.
STAGES = {"connected": 30, "half sent": 32, "waiting for a job": 30, "waiting for images": 8}


class Leavers:
    """`left` counts those who did, by when. The gateway may be quicker than some of them."""

    def __init__(self, port: int, job: str, seed: int) -> None:
        self._port, self._job = port, job
        self._dice = random.Random(seed)  # noqa: S311 - it must be repeatable
        self.left: Counter[str] = Counter()

    async def all(self, number: int) -> None:
        stages = self._dice.choices(list(STAGES), list(STAGES.values()), k=number)
        waiting = iter(enumerate(stages))
        await asyncio.gather(*(self._some(waiting) for _ in range(AT_ONCE)))

    async def _some(self, stages: Iterator[tuple[int, str]]) -> None:
        for number, stage in stages:
            await self._one(number, stage)

    async def _one(self, number: int, stage: str) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request(number, stage))
            await writer.drain()
            await asyncio.sleep(self._dice.uniform(0, 0.15))
            self.left[stage] += 1
        finally:
            if self._dice.random() < 0.5:
                writer.transport.abort()
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    def _request(self, number: int, stage: str) -> bytes:
        match stage:
            case "connected":
                return b""
            case "waiting for a job":
                return _http("GET", f"/v1/jobs/{self._job}?wait=60", b"")
        content = json.dumps(body(f"leaver-{number}", SELLERS[number % len(SELLERS)])).encode()
        request = _http("POST", "/v1/images/generations", content)
        return request[: self._dice.randrange(1, len(request))] if stage == "half sent" else request


def _http(method: str, path: str, content: bytes) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {KEY}",
        "content-type: application/json",
        f"content-length: {len(content)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
