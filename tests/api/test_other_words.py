"""What clients of DALL-E, of Azure and of other gateways say in words of their own: understood, or refused by name."""

import base64
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.answers import IMAGES, JOBS, refused
from tests.clients.pictures import opened
from tests.serving import KEY, Serving

PROMPT = {"prompt": "a lighthouse"}
DEPLOYMENT = "/openai/deployments/{}/images/generations"
AZURE = {"params": {"api-version": "2025-04-01-preview"}}
PATHS = [IMAGES, "/images/generations", "/openai/v1/images/generations", DEPLOYMENT.format("gpt-image-1")]


@pytest.fixture
def stranger(gateway: Serving) -> Iterator[httpx.Client]:
    """A client without any key."""
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


def warned(answer: httpx.Response) -> list[str]:
    """The names of the warnings, which the header has too."""
    assert answer.status_code == 200, answer.text
    warnings = answer.json().get("warnings", [])
    assert answer.headers.get("x-igw-warnings", "") == "; ".join(warnings)
    return [warning.partition(":")[0] for warning in warnings]


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3"])
def test_dalle_clients_get_a_link_and_base64_of_the_same_image(gateway: Serving, model: str) -> None:
    answer = gateway.http.post(IMAGES, json=PROMPT | {"model": model, "n": 2})
    images = answer.json()["data"]
    assert len(images) == 2
    for image in images:
        linked = httpx.get(image["url"], trust_env=False).raise_for_status().content
        assert linked == base64.b64decode(image["b64_json"])
    assert warned(answer) == []


@pytest.mark.parametrize("form", ["url", "b64_json"])
def test_dalle_clients_that_name_a_form_get_that_alone(gateway: Serving, form: str) -> None:
    answer = gateway.http.post(IMAGES, json=PROMPT | {"model": "dall-e-3", "response_format": form})
    assert set(answer.json()["data"][0]) == {form}


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-1", "gpt-image-1-mini", "chatgpt-image-latest", None])
def test_other_models_give_base64_alone(gateway: Serving, model: str | None) -> None:
    answer = gateway.http.post(IMAGES, json=PROMPT | {"model": model, "response_format": None})
    assert set(answer.json()["data"][0]) == {"b64_json"}


def test_sizes_of_dalle_are_ordered_as_the_nearest_that_there_is(gateway: Serving) -> None:
    for size, ordered, warnings in [
        ("256x256", "1024x1024", ["size_mapped"]),
        ("512x512", "1024x1024", ["size_mapped"]),
        ("1024x1024", "1024x1024", []),
        ("1792x1024", "1792x1024", []),
        ("1024x1792", "1024x1792", []),
    ]:
        body = {"model": "dall-e-3", "size": size, "provider": {"only": ["runflow-runs"]}}
        answer = gateway.http.post(IMAGES, json=PROMPT | body)
        assert answer.json()["size"] == ordered
        assert warned(answer) == warnings, size


def test_warnings_about_words_are_kept_with_the_job(gateway: Serving) -> None:
    body = PROMPT | {"size": "512x512", "quality": "hd", "style": "vivid", "provider": {"only": ["runflow-runs"]}}
    first = gateway.http.post(IMAGES, json=body)
    assert warned(first) == ["size_mapped", "quality_mapped", "style_ignored"]
    job = gateway.http.get(f"{JOBS}/{first.headers['x-igw-job-id']}")
    assert job.json()["warnings"] == first.json()["warnings"]
    assert job.headers["x-igw-warnings"] == first.headers["x-igw-warnings"]
    waited = gateway.http.post(JOBS, json=body, headers={"prefer": "wait=30"})
    assert warned(waited) == ["size_mapped", "quality_mapped", "style_ignored"]
    accepted = gateway.http.post(JOBS, json=body)
    assert accepted.json()["warnings"] == first.json()["warnings"], "told before anything is bought"


def test_warnings_come_again_with_a_repeated_request(gateway: Serving) -> None:
    key = {"idempotency-key": str(uuid4())}
    first, second = (gateway.http.post(IMAGES, json=PROMPT | {"style": "vivid"}, headers=key) for _ in range(2))
    assert second.headers["idempotent-replayed"] == "true"
    assert warned(first)[:1] == warned(second)[:1] == ["style_ignored"]


EQUAL_TO_DEFAULTS: list[dict[str, Any]] = [
    {"output_compression": 100, "output_format": "webp"},
    {"partial_images": 0, "stream": False},
    {"background": "auto", "moderation": "auto", "quality": "auto", "size": "auto"},
    {"background": "opaque", "style": None, "input_fidelity": None, "seed": None, "unheard_of": None},
    {"n": "1", "size": "1024X1024", "output_format": "jpg", "quality": "HIGH", "background": "OPAQUE"},
    {"resolution": "1K", "aspect_ratio": "1:1", "max_seconds": "600", "output_compression": "100", "stream": "false"},
]


@pytest.mark.parametrize("path", [IMAGES, JOBS])
@pytest.mark.parametrize("fields", EQUAL_TO_DEFAULTS)
def test_what_equals_the_default_is_no_mistake(gateway: Serving, path: str, fields: dict[str, Any]) -> None:
    body = PROMPT | fields | {"provider": {"only": ["runflow-runs"]}}
    answer = gateway.http.post(path, json=body, headers={"prefer": "wait=30"})
    assert warned(answer) == []


@pytest.mark.parametrize("path", PATHS)
def test_every_path_of_openai_and_azure_gives_images(gateway: Serving, path: str) -> None:
    answer = gateway.http.post(path, json=PROMPT, **AZURE)
    assert answer.status_code == 200, answer.text
    assert opened(answer.json()["data"][0]["b64_json"]).size == (1024, 1024)


@pytest.mark.parametrize("path", PATHS)
def test_errors_on_every_path_are_in_the_envelope(gateway: Serving, stranger: httpx.Client, path: str) -> None:
    wrong = gateway.http.post(path, json=PROMPT | {"n": 11}, **AZURE)
    unauthorized = stranger.post(path, json=PROMPT, **AZURE)
    missing = gateway.http.post(path.replace("generations", "generation"), json=PROMPT)
    for answer, status in ((wrong, 400), (unauthorized, 401), (missing, 404), (gateway.http.get(path), 405)):
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_deployment_is_the_model_whatever_the_body_says(gateway: Serving) -> None:
    for body in ({}, {"model": ""}, {"model": "gpt-image-9"}, {"model": None}):
        answer = gateway.http.post(DEPLOYMENT.format("dall-e-3"), json=PROMPT | body, **AZURE)
        assert set(answer.json()["data"][0]) == {"url", "b64_json"}
    error = refused(gateway.http.post(DEPLOYMENT.format("my%20own"), json=PROMPT), 404, "model_not_found")
    assert (error["param"], "my own" in error["message"]) == ("model", True)


@pytest.mark.parametrize("header", ["api-key", "x-api-key", "API-KEY"])
def test_a_key_may_come_in_the_headers_of_azure_and_others(stranger: httpx.Client, header: str) -> None:
    assert stranger.post(IMAGES, json=PROMPT, headers={header: KEY}).status_code == 200
    assert stranger.post(JOBS, json=PROMPT, headers={header: KEY}).status_code == 202
    basic = {"authorization": "Basic eDp5", header: KEY}
    assert stranger.post(IMAGES, json=PROMPT, headers=basic).status_code == 200
    wrong = stranger.post(IMAGES, json=PROMPT, headers={header: "igw_nobody"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer igw_nobody", "api-key": KEY},
        {"api-key": "igw_nobody", "x-api-key": KEY},
    ],
)
def test_of_several_keys_only_the_first_is_tried(stranger: httpx.Client, headers: dict[str, str]) -> None:
    assert stranger.post(IMAGES, json=PROMPT, headers=headers).status_code == 401


def test_keys_in_any_header_are_never_logged(gateway: Serving, stranger: httpx.Client) -> None:
    secret = f"igw_secret_{uuid4().hex}"
    for header in ("api-key", "x-api-key"):
        stranger.post(IMAGES, json=PROMPT, headers={header: secret})
    assert secret not in gateway.logged
