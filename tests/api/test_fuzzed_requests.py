"""Thousands of corrupted requests to one running gateway cause no 5xx, no leak and no crash."""

import json
import random
from typing import Any

import httpx

from tests.api.byte_fuzzer import ByteFuzzer, FuzzedResponses
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.harness.gateway_runner import RunningGateway

REQUEST_COUNT = 3_200
# No order is placed: no seller offers so low a price, unless the fuzzer corrupts the limit itself.
VALID_BODY: dict[str, Any] = {
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
ODD_VALUES: list[Any] = [
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
FIELD_NAMES = [
    *VALID_BODY,
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
HEADER_NAMES = [
    "content-type",
    "authorization",
    "idempotency-key",
    "prefer",
    "x-stainless-retry-count",
    "accept",
    "x-igw",
]
HEADER_VALUES = [
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
ODD_BYTES = [
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


PATH_PIECES = "/ .. %2e %00 %ff job_ files v1 jobs images ? & = a é ; // { '"


class RequestFuzzer(ByteFuzzer):
    """Makes corrupted requests."""

    def make_body(self) -> bytes:
        fields = dict(VALID_BODY)
        for _ in range(self.draw_change_count()):
            self._change_field(fields)
        data = json.dumps(fields, ensure_ascii=self.random.random() < 0.7).encode("utf-8", "surrogatepass")
        return self.corrupt_sometimes(data)

    def _change_field(self, fields: dict[str, Any]) -> None:
        name, kind = self.random.choice(FIELD_NAMES), self.random.random()
        if kind < 0.2:
            fields.pop(name, None)
        elif kind < 0.3 and fields:
            fields[name] = fields[self.random.choice(list(fields))]
        else:
            fields[name] = self.random.choice(ODD_VALUES)
        # The price limit prevents orders, whatever else the request contains.
        if not isinstance(fields.get("max_price"), str | float):
            fields["max_price"] = "0.001"

    def make_headers(self) -> list[tuple[bytes, bytes]]:
        headers = {b"content-type": b"application/json", b"authorization": b"Bearer igw_sandbox"}
        if self.random.random() < 0.25:
            headers[self.random.choice(HEADER_NAMES).encode()] = self.random.choice(HEADER_VALUES)
        return list(headers.items())


def test_thousands_of_corrupted_requests_cause_no_5xx_and_no_leak(gateway: RunningGateway) -> None:
    fuzzer, responses = RequestFuzzer(20_261_121, ODD_BYTES), FuzzedResponses(gateway, REQUEST_COUNT)
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
        for number in range(REQUEST_COUNT):
            body, headers = fuzzer.make_body(), fuzzer.make_headers()
            answer = http.post((JOBS_PATH, IMAGES_PATH)[number % 2], content=body, headers=headers)
            responses.record(number, answer, f"{headers} {body[:2_000]!r}")
    responses.expect_healthy_gateway()
    assert len(responses.codes) >= 8, "too few kinds of corruption"
    assert responses.statuses[400] < REQUEST_COUNT, "no corrupted request gets past the body checks"
    assert gateway.http.get("/readyz").json()["ready"]


def test_corrupted_paths_and_queries_cause_no_5xx(gateway: RunningGateway) -> None:
    random_source = random.Random(7)  # noqa: S311
    pieces = PATH_PIECES.split()
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30, headers=dict(gateway.http.headers)) as http:
        for number in range(600):
            path = "/" + "".join(random_source.choice(pieces) for _ in range(random_source.randrange(1, 9)))
            answer = http.request(
                random_source.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")), gateway.url + path
            )
            assert answer.status_code < 500, (number, path, answer.text[:300])
            assert answer.headers["x-request-id"], path
    assert [line for line in gateway.read_problem_lines() if line["event"] != "library"] == []
