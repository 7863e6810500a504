"""The base of fuzzers, which make the same mutations in every run, and what the responses must be."""

import random
from collections import Counter
from collections.abc import Sequence

import httpx

from tests.api.error_responses import parse_error
from tests.harness.gateway_runner import RunningGateway

MIB = 1 << 20


class ByteFuzzer:
    """Mutates bytes: truncates them, inserts some of `odd_bytes`, or changes single bytes."""

    def __init__(self, seed: int, odd_bytes: Sequence[bytes]) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self._odd_bytes = odd_bytes

    def draw_change_count(self) -> int:
        return self.random.choice((0, 1, 1, 1, 2, 3))

    def corrupt_sometimes(self, data: bytes, start: int = 0) -> bytes:
        """Corrupts two in five. Leaves everything before `start` as it is."""
        return self._corrupt_bytes(data, start) if self.random.random() < 0.4 else data

    def _corrupt_bytes(self, data: bytes, start: int) -> bytes:
        position, kind = self.random.randrange(start, len(data) + 1), self.random.random()
        if kind < 0.3:
            return data[:position]
        if kind < 0.7:
            inserted = self.random.choice(self._odd_bytes) * self.random.choice((1, 1, 2, 40))
            return data[:position] + inserted + data[position:]
        flipped = bytearray(data)
        for _ in range(self.random.choice((1, 3, 20))):
            flipped[self.random.randrange(start, len(flipped))] = self.random.randrange(256)
        return bytes(flipped)


class FuzzedResponses:
    """Counts the statuses and error codes of `count` mutated requests, and measures the gateway's memory."""

    def __init__(self, gateway: RunningGateway, count: int) -> None:
        self._gateway, self._warm_up_count = gateway, count // 4
        self._resident_bytes: int | None = None
        self.statuses, self.codes = Counter[int](), Counter[str]()

    def record(self, number: int, answer: httpx.Response, request: str) -> None:
        context = f"request {number}: {request} → {answer.text[:500]}"
        self.statuses[answer.status_code] += 1
        assert answer.status_code < 500, context
        assert answer.headers["x-request-id"], context
        if answer.status_code >= 400:
            self.codes[parse_error(answer)["code"]] += 1
        if number == self._warm_up_count:
            self._resident_bytes = self._gateway.get_resident_bytes()

    def expect_healthy_gateway(self) -> None:
        """The gateway runs, has grown little since the first quarter, and has logged no problem."""
        assert self._resident_bytes is not None
        assert self._gateway.get_resident_bytes() - self._resident_bytes < 40 * MIB
        assert self._gateway.process.poll() is None
        assert [line for line in self._gateway.read_problem_lines() if line["event"] != "library"] == []
