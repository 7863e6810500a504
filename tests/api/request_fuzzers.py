"""Makes mutated requests: JSON bodies, headers, paths and queries. The same seed makes the same requests."""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from gateway.api.access_control import get_declared_scope
from gateway.api.application import ROUTE_HANDLERS
from gateway.store.api_keys import Scope
from tests.api.byte_fuzzer import ByteFuzzer
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.form_fuzzer import AUTHORIZATION, FILE_PARTS, FORM_PARTS, FormFuzzer
from tests.api.parallel_requests import RawRequest

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


PATH_PIECES = "/ .. %2e %00 %ff job_ files v1 jobs images ? & = a é ; // { '".encode().split()
ODD_IDS = ["unknown", "job_" + "0" * 28, "0", "-1", "%00", "%2e%2e", "%ff", "é", "a" * 3_000, "1%2F2", "1/2", "%", "{}"]


class JsonFuzzer(ByteFuzzer):
    """Makes mutated JSON requests for images."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, ODD_BYTES)

    def make_request(self) -> RawRequest:
        path = self.random.choice((JOBS_PATH, IMAGES_PATH))
        return RawRequest(b"POST", path.encode(), self.make_headers(AUTHORIZATION), self.make_body(VALID_BODY))

    def make_body(self, valid_body: Mapping[str, Any]) -> bytes:
        fields = dict(valid_body)
        for _ in range(self.draw_change_count()):
            self._change_field(fields)
        data = json.dumps(fields, ensure_ascii=self.random.random() < 0.7).encode("utf-8", "surrogatepass")
        return self.corrupt_sometimes(data)

    def _change_field(self, fields: dict[str, Any]) -> None:
        name, kind = self.random.choice([*FIELD_NAMES, *fields]), self.random.random()
        if kind < 0.2:
            fields.pop(name, None)
        elif kind < 0.3 and fields:
            fields[name] = fields[self.random.choice(list(fields))]
        else:
            fields[name] = self.random.choice(ODD_VALUES)
        # The price limit prevents orders, whatever else the request contains.
        if not isinstance(fields.get("max_price"), str | float):
            fields["max_price"] = "0.001"

    def make_headers(self, authorization: bytes) -> list[tuple[bytes, bytes]]:
        headers = {b"content-type": b"application/json", b"authorization": authorization}
        if self.random.random() < 0.25:
            headers[self.random.choice(HEADER_NAMES).encode()] = self.random.choice(HEADER_VALUES)
        return list(headers.items())


class PathFuzzer:
    """Makes requests without a body for paths and queries of random pieces."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311

    def make_request(self) -> RawRequest:
        pieces = [self.random.choice(PATH_PIECES) for _ in range(self.random.randrange(1, 9))]
        method = self.random.choice((b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"TRACE"))
        return RawRequest(method, b"/" + b"".join(pieces), [(b"authorization", AUTHORIZATION)], b"")


# --- every route

# A valid body by the last word of a route's path. Other routes get that of a job.
VALID_BODIES: dict[str, dict[str, Any]] = {
    "keys": {"team": "no-such-team", "name": "n", "scopes": ["read"], "expires_at": 1, "limits": {}, "policies": []},
    "rotate": {"overlap_seconds": 60},
    "batches": {
        "input_file_id": "file-unknown",
        "endpoint": IMAGES_PATH,
        "completion_window": "24h",
        "metadata": {},
        "max_cost": 0.001,
    },
    "responses": {
        "model": "gpt-image-2",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a lighthouse"}]}],
        "tools": [{"type": "image_generation", "quality": "low"}],
        "tool_choice": {"type": "image_generation"},
        "previous_response_id": "resp_unknown",
    },
}
QUERY_NAMES = [
    *(
        "limit",
        "after",
        "before",
        "order",
        "cursor",
        "status",
        "since",
        "key",
        "model",
        "label",
        "wait",
        "w",
        "purpose",
    ),
    *("download", "team", "stream", "starting_after", "include[]", "", "é", "api-version"),
]
QUERY_VALUES = [
    *("", "0", "-1", "1", "20", "101", "9" * 30, "1e9", "NaN", "true", "completed", "gpt-image-2", "2026-01-01", "a,b"),
    *(
        "%00",
        "%ff",
        "%",
        "%zz",
        "+",
        "&",
        "=",
        "a" * 5_000,
        "job_" + "0" * 28,
        "../..",
        "'",
        "%F0%9F%91%A9",
        "bytes=0-",
    ),
]


class RouteFuzzer(JsonFuzzer):
    """Makes requests for every route of the application: ids in the path, query, headers and body are mutated.

    `known_ids`: ids of existing resources, by the name of the path's parameter. They are never deleted.
    """

    def __init__(self, seed: int, known_ids: Mapping[str, str], admin_key: str) -> None:
        super().__init__(seed)
        self._admin_authorization = f"Bearer {admin_key}".encode()
        self._known_ids = known_ids
        self._routes = [
            (method, path, get_declared_scope(handler))
            for handler in ROUTE_HANDLERS
            for path in sorted(handler.paths)
            for method in sorted(handler.http_methods)
        ]
        self._form_fuzzer = FormFuzzer(seed)

    def make_request(self) -> RawRequest:
        method, path, scope = self.random.choice(self._routes)
        target = re.sub(r"\{(\w+):\w+\}", lambda match: self._pick_id(method, match[1]), path) + self._make_query()
        authorization = self._admin_authorization if scope is Scope.ADMIN else AUTHORIZATION
        headers = self.make_headers(authorization)
        if method != "POST":
            return RawRequest(method.encode(), target.encode(), headers, b"")
        if self.random.random() < 0.2:
            content_type = self._form_fuzzer.make_content_type().encode()
            form = self._form_fuzzer.make_form(FILE_PARTS if path.endswith("/files") else FORM_PARTS)
            return RawRequest(
                b"POST", target.encode(), [(b"authorization", authorization), (b"content-type", content_type)], form
            )
        body = self.make_body(VALID_BODIES.get(path.rpartition("/")[2], VALID_BODY))
        return RawRequest(b"POST", target.encode(), headers, body)

    def _pick_id(self, method: str, parameter: str) -> str:
        if method == "DELETE" or self.random.random() < 0.4:
            return self.random.choice(ODD_IDS)
        return self._known_ids.get(parameter, "0")

    def _make_query(self) -> str:
        pairs = [
            f"{self.random.choice(QUERY_NAMES)}={self.random.choice(QUERY_VALUES)}"
            for _ in range(self.random.choice((0, 0, 1, 1, 2, 4)))
        ]
        return f"?{'&'.join(pairs)}" if pairs else ""
