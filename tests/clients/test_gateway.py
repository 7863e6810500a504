"""OpenAI's Python SDK against the gateway itself: pictures, errors, retries, words that only we know."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.clients.openai_python import MODEL
from tests.clients.pictures import opened
from tests.serving import KEY, Serving


def sdk_of(gateway: Serving, **options: Any) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=options.pop("api_key", KEY), http_client=http, **options)


@pytest.fixture
def buyer(gateway: Serving) -> Iterator[openai.OpenAI]:
    """As anybody would make one, retries and all."""
    with sdk_of(gateway) as client:
        yield client


@pytest.fixture
def asked(gateway: Serving) -> Any:
    """How many requests the SDK has made since."""
    before = len(answered(gateway))
    return lambda: len(answered(gateway)) - before


def answered(gateway: Serving) -> list[dict[str, Any]]:
    # A line is written a moment after its answer; the next answer's line comes after it.
    marker = gateway.http.get(f"/nothing-{uuid4()}").headers["x-request-id"]
    while not (found := gateway.log_lines()) or marker not in {line.get("id") for line in found[-20:]}:
        pass
    return [line for line in found if line.get("route") == "/v1/images/generations"]


@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "2048x1152", "auto"])
def test_generate(buyer: openai.OpenAI, size: str) -> None:
    answer = buyer.images.generate(model=MODEL, prompt="a lighthouse", size=size, n=2)  # type: ignore[arg-type]
    pictures = [opened(image.b64_json) for image in answer.data or []]
    assert ["{}x{}".format(*one.size) for one in pictures] == [answer.size] * 2
    assert answer.output_format == "png"
    assert answer._request_id


def test_only_a_prompt_and_everything_null(buyer: openai.OpenAI) -> None:
    assert opened(buyer.images.generate(prompt="a lighthouse").data[0].b64_json)  # type: ignore[index]
    names = "model n size quality background output_format moderation stream response_format safety_identifier user"
    assert buyer.images.generate(prompt="a lighthouse", **dict.fromkeys(names.split())).data


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_formats(buyer: openai.OpenAI, kind: Any) -> None:
    answer = buyer.images.generate(model=MODEL, prompt="a lighthouse", output_format=kind)
    assert opened(answer.data[0].b64_json).format == kind.upper()  # type: ignore[index]


def test_links(buyer: openai.OpenAI) -> None:
    answer = buyer.images.generate(model=MODEL, prompt="a lighthouse", response_format="url")
    assert (answer.data[0].url or "").startswith("http")  # type: ignore[index]


def test_our_own_words_pass_through_the_sdk_and_our_headers_come_back(gateway: Serving, buyer: openai.OpenAI) -> None:
    extra = {
        "resolution": "2k",
        "aspect_ratio": "16:9",
        "policy": "steady",
        "max_price": "0.15",
        "max_cost": 0.5,
        "provider": {"only": ["runapi"]},
        "metadata": {"campaign": "spring"},
    }
    raw = buyer.images.with_raw_response.generate(model=MODEL, prompt="a lighthouse", n=2, extra_body=extra)
    answer = raw.parse()
    width, height = map(int, (answer.size or "").split("x"))
    assert abs(width / height - 16 / 9) < 0.05
    assert width * height > 1_572_864
    assert raw.headers["x-igw-seller"] == "runapi"
    assert raw.headers["x-igw-cost-usd"] == "0.20"
    assert raw.headers["x-igw-attempts"] == "2"
    assert int(raw.headers["x-igw-overhead-ms"]) < 5_000
    assert answer.usage.cost == 0.2  # type: ignore[union-attr]
    job = gateway.http.get(f"/v1/jobs/{raw.headers['x-igw-job-id']}").json()
    assert job["usage"]["cost"] == 0.2


MISTAKES: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "multiples of 16": ({"size": "17x17"}, openai.BadRequestError, "invalid_value", "size"),
    "at most 10": ({"n": 11}, openai.BadRequestError, "invalid_value", "n"),
    "did you mean 'prompt'": ({"promt": "x"}, openai.BadRequestError, "unknown_parameter", "promt"),
    "gpt-image-2": ({"model": "no/such"}, openai.NotFoundError, "model_not_found", "model"),
    "$0.06 per image is above $0.001": ({"max_price": 0.001}, openai.BadRequestError, "no_offer", None),
    "cheapest": ({"policy": "no"}, openai.BadRequestError, "invalid_value", "policy"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_the_sdks_own_exceptions_with_our_words(buyer: openai.OpenAI, asked: Any, words: str) -> None:
    wrong, error, code, param = MISTAKES[words]
    with pytest.raises(error) as raised:
        buyer.images.generate(**{"model": MODEL, "prompt": "a lighthouse", "extra_body": wrong})
    assert (raised.value.code, raised.value.param) == (code, param)
    assert words in raised.value.message
    assert (raised.value.request_id or "").startswith("req_")
    assert asked() == 1, "what is final is not sent again"


def test_a_wrong_key(gateway: Serving, asked: Any) -> None:
    with sdk_of(gateway, api_key="igw_nobody") as stranger, pytest.raises(openai.AuthenticationError) as raised:
        stranger.images.generate(prompt="a lighthouse")
    assert raised.value.code == "invalid_api_key"
    assert asked() == 1


def test_a_refusal_for_content(gateway: Serving, buyer: openai.OpenAI, asked: Any) -> None:
    gateway.vendors.fault("refuse_content", times=1)
    with pytest.raises(openai.BadRequestError) as raised:
        buyer.images.generate(prompt="a lighthouse")
    assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert asked() == 1


def test_a_failure_of_all_sellers_is_a_final_424(gateway: Serving, buyer: openai.OpenAI, asked: Any) -> None:
    gateway.vendors.fault("fail")
    with pytest.raises(openai.APIStatusError) as raised:
        buyer.images.generate(prompt="a lighthouse", extra_body={"provider": {"only": ["runapi"]}})
    assert (raised.value.status_code, raised.value.code) == (424, "sellers_failed")
    assert asked() == 1


def test_an_impatient_client_pays_once_and_gets_its_picture(gateway: Serving) -> None:
    """It gives up after 0.3 s, and asks again twice: both times it is brought to the job that it started."""
    gateway.vendors.latency(1.2)
    before = len(gateway.vendors.charges())
    with sdk_of(gateway, timeout=0.3) as hasty:
        answer = hasty.images.generate(prompt=f"a lighthouse {uuid4()}")
    assert opened(answer.data[0].b64_json).size == (1024, 1024)  # type: ignore[index]
    assert len(gateway.vendors.charges()) - before == 1


def test_a_client_that_gives_up_altogether_finds_its_job_done(gateway: Serving) -> None:
    gateway.vendors.latency(0.6)
    before, prompt = len(gateway.vendors.charges()), f"a lighthouse {uuid4()}"
    with sdk_of(gateway, timeout=0.2, max_retries=0) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.images.generate(prompt=prompt)
    gateway.come_to_rest()
    assert len(gateway.vendors.charges()) - before == 1
    with sdk_of(gateway) as again:
        raw = again.images.with_raw_response.generate(prompt=prompt, extra_headers={"x-stainless-retry-count": "1"})
    assert raw.headers["idempotent-replayed"] == "true"
    assert len(gateway.vendors.charges()) - before == 1


def test_jobs_by_the_sdks_plain_requests_show_our_errors_too(buyer: openai.OpenAI) -> None:
    job: Any = buyer.post("/jobs", body={"prompt": "a lighthouse"}, cast_to=object)
    assert job["object"] == "job"
    with pytest.raises(openai.BadRequestError) as raised:
        buyer.post("/jobs", body={"prompt": "a lighthouse", "n": 11}, cast_to=object)
    assert "at most 10" in raised.value.message
