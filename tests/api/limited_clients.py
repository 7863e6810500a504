"""Clients whose API key has limits, and the response to a request beyond them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.api.error_responses import parse_error
from tests.harness.gateway_runner import RunningGateway, make_client
from tests.harness.key_admin import create_key


@contextmanager
def open_limited_client(gateway: RunningGateway, **limits: int) -> Iterator[httpx.Client]:
    created = create_key(gateway, limits=limits)
    with make_client(gateway.url, created["key"]) as client:
        yield client


def expect_rate_limit(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 429, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert answer.headers["x-should-retry"] == "true"
    error = parse_error(answer)
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    return error
