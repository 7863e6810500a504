"""Expensive bodies over real sockets are rejected, and other requests are answered meanwhile."""

import base64
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.api.request_body_reader import MAX_BODY_BYTES_WITHOUT_IMAGES
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, JSON_HEADERS, expect_final_error, parse_error
from tests.api.hostile_bodies import HOSTILE_BODIES, MIB
from tests.harness.gateway_runner import RunningGateway

# No seller accepts the order: the body was valid.
UNFULFILLABLE_BODY: dict[str, Any] = {"prompt": "a lighthouse", "max_price": "0.001"}


def test_every_hostile_body_is_rejected_and_the_gateway_keeps_running(gateway: RunningGateway) -> None:
    before = gateway.sandbox.list_charges()
    for name, body in HOSTILE_BODIES.items():
        answer = gateway.http.post(JOBS_PATH, content=body(3 * MIB), headers=JSON_HEADERS)
        assert answer.status_code in (400, 413), (name, answer.text[:300])
        assert parse_error(answer)["code"], name
    assert gateway.http.get("/livez").text == "ok\n"
    assert gateway.sandbox.list_charges() == before
    gateway.expect_no_problem()


def test_other_requests_are_answered_while_a_62_mib_body_is_read(gateway: RunningGateway) -> None:
    bodies = [HOSTILE_BODIES[name](62 * MIB) for name in ("tiny lists", "an image of zeros", "open objects")]
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(
            lambda: [gateway.http.post(JOBS_PATH, content=body, headers=JSON_HEADERS) for body in bodies]
        )
        answered = 0
        while not sent.done():
            assert httpx.get(f"{gateway.url}/livez", trust_env=False, timeout=60).status_code == 200
            answered += 1
    assert answered > len(bodies)
    assert [answer.status_code for answer in sent.result()] == [400, 400, 400]


def test_body_on_a_route_without_images_is_limited_to_1_mib(gateway: RunningGateway) -> None:
    largest_body = b'{"prompt": "%s"}' % (b"a" * (MAX_BODY_BYTES_WITHOUT_IMAGES - 14))
    error = expect_final_error(gateway.http.post(IMAGES_PATH, content=largest_body, headers=JSON_HEADERS), 400)
    assert error["param"] == "prompt"
    for content in (largest_body + b" ", iter([largest_body, b" "])):
        error = expect_final_error(
            gateway.http.post(IMAGES_PATH, content=content, headers=JSON_HEADERS), 413, "body_too_large"
        )
        assert (
            error["message"] == "The body is larger than 1 MiB, and this route accepts no images. Send a smaller body. "
            "You were not charged."
        )
    error = expect_final_error(
        gateway.http.post(JOBS_PATH, content=largest_body * 2, headers=JSON_HEADERS), 400, "invalid_json"
    )


@pytest.mark.parametrize("escaped", ["", "/", "+", "/+="])
def test_large_images_are_accepted_with_any_json_escapes(gateway: RunningGateway, escaped: str) -> None:
    padded_image = gateway.sandbox.fetch_sample_image(64, 64) + random.Random(1).randbytes(3 * MIB)  # noqa: S311
    text = base64.b64encode(padded_image).decode()
    body = json.dumps(UNFULFILLABLE_BODY | {"operation": "edit", "images": [text, f"data:image/png;base64,{text}"]})
    for letter in escaped:
        body = body.replace(letter, "\\/" if letter == "/" else f"\\u{ord(letter):04X}")
    expect_final_error(gateway.http.post(JOBS_PATH, content=body.encode(), headers=JSON_HEADERS), 400, "no_offer")
