"""Bodies made to keep the gateway busy, over real sockets: refused, and everybody else is answered meanwhile."""

import base64
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.api.bodies import MOST_BYTES_WITHOUT_IMAGES
from tests.api.answers import IMAGES, JOBS, JSON, refused, told
from tests.api.hostile_bodies import HOSTILE, MIB
from tests.serving import Serving

# An order that no seller takes: its body was valid.
UNSOLD: dict[str, Any] = {"prompt": "a lighthouse", "max_price": "0.001"}


def test_every_hostile_body_is_refused_and_the_gateway_goes_on(gateway: Serving) -> None:
    before = gateway.vendors.charges()
    for name, body in HOSTILE.items():
        answer = gateway.http.post(JOBS, content=body(3 * MIB), headers=JSON)
        assert answer.status_code in (400, 413), (name, answer.text[:300])
        assert told(answer)["code"], name
    assert gateway.http.get("/livez").text == "ok\n"
    assert gateway.vendors.charges() == before
    assert [line for line in gateway.troubles() if line["event"] != "library"] == []


def test_others_are_answered_while_a_body_of_62_mib_is_read(gateway: Serving) -> None:
    bodies = [HOSTILE[name](62 * MIB) for name in ("tiny lists", "an image of nothing", "open objects")]
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(lambda: [gateway.http.post(JOBS, content=body, headers=JSON) for body in bodies])
        answered = 0
        while not sent.done():
            assert httpx.get(f"{gateway.url}/livez", trust_env=False, timeout=10).status_code == 200
            answered += 1
    assert answered > len(bodies)
    assert [answer.status_code for answer in sent.result()] == [400, 400, 400]


def test_where_no_image_can_be_sent_a_body_has_1_mib(gateway: Serving) -> None:
    whole = b'{"prompt": "%s"}' % (b"a" * (MOST_BYTES_WITHOUT_IMAGES - 14))
    error = refused(gateway.http.post(IMAGES, content=whole, headers=JSON), 400)
    assert error["param"] == "prompt"
    for content in (whole + b" ", iter([whole, b" "])):
        error = refused(gateway.http.post(IMAGES, content=content, headers=JSON), 413, "body_too_large")
        assert error["message"] == "The body is larger than 1 MiB, and no image can be sent here."
    error = refused(gateway.http.post(JOBS, content=whole * 2, headers=JSON), 400, "invalid_json")


@pytest.mark.parametrize("escaped", ["", "/", "+", "/+="])
def test_large_images_in_a_body_are_taken_however_they_are_written(gateway: Serving, escaped: str) -> None:
    picture = gateway.vendors.sample(64, 64) + random.Random(1).randbytes(3 * MIB)  # noqa: S311
    text = base64.b64encode(picture).decode()
    body = json.dumps(UNSOLD | {"operation": "edit", "images": [text, f"data:image/png;base64,{text}"]})
    for letter in escaped:
        body = body.replace(letter, "\\/" if letter == "/" else f"\\u{ord(letter):04X}")
    refused(gateway.http.post(JOBS, content=body.encode(), headers=JSON), 400, "no_offer")
