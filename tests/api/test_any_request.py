"""Thousands of requests gone wrong in every way, at one running gateway: never a 5xx, never a leak, never its end."""

import json
import random
from collections import Counter
from typing import Any

import httpx

from tests.api.answers import IMAGES, JOBS, told
from tests.serving import Serving

REQUESTS = 3_200
MIB = 1 << 20
# No order is placed for any of it: nobody sells for so little, unless the limit itself is what went wrong.
WHOLE: dict[str, Any] = {
    "prompt": "a lighthouse at dawn",
    "model": "gpt-image-2",
    "n": 2,
    "size": "1536x1024",
    "quality": "high",
    "output_format": "webp",
    "background": "auto",
    "user": "u-1",
    "aspect_ratio": "3:2",
    "policy": "steady",
    "max_price": "0.001",
    "max_cost": 0.001,
    "max_seconds": 60.5,
    "provider": {"only": ["runapi"], "ignore": []},
    "metadata": {"campaign": "spring"},
}
WORDS: list[Any] = [
    *(None, True, False, 0, -1, 1, 10, 11, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.0, -0.0, 1e-320, 1e308, 0.1),
    *(
        "",
        " ",
        "\0",
        "\u202e",
        "👩\u200d🚀",
        "e\u0301",
        "\ufeff",
        "a" * 201,
        "a" * 33_000,
        "1024x1024",
        "9" * 300,
        "NaN",
    ),
    *(
        "../../etc/passwd",
        "%s%n",
        "{{7*7}}",
        "${jndi:x}",
        "'; DROP TABLE jobs; --",
        "\r\nX-Evil: 1",
        "auto",
        "1k",
        "16:9",
    ),
    *([], [[]], [None], ["runapi"] * 100, {}, {"": ""}, {"a": {"b": {"c": []}}}, {"only": "runapi"}, {"$": 1}),
    *({str(number): "v" for number in range(2_000)}, list(range(1_000))),
]
NAMES = [
    *WHOLE,
    "operation",
    "image",
    "images",
    "mask",
    "webhook",
    "response_format",
    "stream",
    "seed",
    "",
    "__class__",
    "é",
]
HEADERS = ["content-type", "authorization", "idempotency-key", "prefer", "x-stainless-retry-count", "accept", "x-igw"]
VALUES = [
    *(
        b"",
        b"application/json",
        b"application/json; charset=utf-16",
        b"text/html",
        b"Bearer igw_sandbox",
        b"Bearer x",
    ),
    *(
        b"wait=5",
        b"wait=0",
        b"wait=99999999999999999999",
        b"respond-async, wait=1",
        b"1",
        b"-1",
        b"9" * 400,
        b"\xff\xfe",
    ),
    *(b"a" * 8_000, b"%00", b'"quoted"', b"multipart/form-data; boundary=x", b"*/*"),
]
BYTES = [
    b"\x00",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"-",
    b"null",
]


PIECES = "/ .. %2e %00 %ff job_ files v1 jobs images ? & = a é ; // { '"


class Mischief:
    """The same in every run."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311

    def body(self) -> bytes:
        wanted = dict(WHOLE)
        for _ in range(self.dice.choice((0, 1, 1, 1, 2, 3))):
            self._change(wanted)
        data = json.dumps(wanted, ensure_ascii=self.dice.random() < 0.7).encode("utf-8", "surrogatepass")
        return self._broken(data) if self.dice.random() < 0.4 else data

    def _change(self, wanted: dict[str, Any]) -> None:
        name, kind = self.dice.choice(NAMES), self.dice.random()
        if kind < 0.2:
            wanted.pop(name, None)
        elif kind < 0.3 and wanted:
            wanted[name] = wanted[self.dice.choice(list(wanted))]
        else:
            wanted[name] = self.dice.choice(WORDS)
        # Nobody buys by accident, whatever else is asked for.
        if not isinstance(wanted.get("max_price"), str | float):
            wanted["max_price"] = "0.001"

    def _broken(self, data: bytes) -> bytes:
        at, kind = self.dice.randrange(len(data) + 1), self.dice.random()
        if kind < 0.3:
            return data[:at]
        if kind < 0.7:
            return data[:at] + self.dice.choice(BYTES) * self.dice.choice((1, 1, 2, 40)) + data[at:]
        flipped = bytearray(data)
        for _ in range(self.dice.choice((1, 3, 20))):
            flipped[self.dice.randrange(len(flipped))] = self.dice.randrange(256)
        return bytes(flipped)

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = {b"content-type": b"application/json", b"authorization": b"Bearer igw_sandbox"}
        if self.dice.random() < 0.25:
            found[self.dice.choice(HEADERS).encode()] = self.dice.choice(VALUES)
        return list(found.items())


def test_thousands_of_requests_gone_wrong(gateway: Serving) -> None:
    mischief, statuses, codes = Mischief(20_261_121), Counter[int](), Counter[str]()
    resident = None
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
        for number in range(REQUESTS):
            body, headers = mischief.body(), mischief.headers()
            answer = http.post((JOBS, IMAGES)[number % 2], content=body, headers=headers)
            statuses[answer.status_code] += 1
            context = f"request {number}: {headers} {body[:2_000]!r} → {answer.text[:500]}"
            assert answer.status_code < 500, context
            assert answer.headers["x-request-id"], context
            if answer.status_code >= 400:
                codes[told(answer)["code"]] += 1
            if number == REQUESTS // 4:
                resident = gateway.resident_bytes()
    assert resident is not None
    assert gateway.resident_bytes() - resident < 40 * MIB
    assert gateway.process.poll() is None
    assert [line for line in gateway.troubles() if line["event"] != "library"] == []
    assert len(codes) >= 8, "mischief is not varied enough"
    assert statuses[400] < REQUESTS, "mischief never gets past the body"
    assert gateway.http.get("/readyz").json()["ready"]


def test_paths_and_queries_gone_wrong(gateway: Serving) -> None:
    dice = random.Random(7)  # noqa: S311
    pieces = PIECES.split()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30, headers=dict(gateway.http.headers)) as http:
        for number in range(600):
            path = "/" + "".join(dice.choice(pieces) for _ in range(dice.randrange(1, 9)))
            answer = http.request(dice.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")), gateway.url + path)
            assert answer.status_code < 500, (number, path, answer.text[:300])
            assert answer.headers["x-request-id"], path
    assert [line for line in gateway.troubles() if line["event"] != "library"] == []
