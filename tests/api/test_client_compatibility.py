"""Parameters and headers of DALL-E, Azure and other gateways' clients are mapped, or rejected by name."""

import base64
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, expect_final_error
from tests.harness.gateway_runner import API_KEY, RunningGateway
from tests.harness.sample_images import decode_image, make_image

BODY = {"prompt": "a lighthouse"}
DEPLOYMENT_PATH = "/openai/deployments/{}/images/generations"
AZURE_QUERY = {"params": {"api-version": "2025-04-01-preview"}}
GENERATION_PATHS = [
    IMAGES_PATH,
    "/images/generations",
    "/openai/v1/images/generations",
    DEPLOYMENT_PATH.format("gpt-image-1"),
]


@pytest.fixture
def anonymous_client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    """A client without any key."""
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client:
        yield client


def get_warning_names(answer: httpx.Response) -> list[str]:
    """Returns the names of the warnings; the header has the same."""
    assert answer.status_code == 200, answer.text
    warnings = answer.json().get("warnings", [])
    names = [warning.partition(": ")[0] for warning in warnings]
    header = answer.headers.get("x-igw-warnings", "")
    assert [entry.partition(": ")[0] for entry in header.split("; ") if entry] == names
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    return names


@pytest.mark.one_in(2)
@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3"])
def test_dalle_models_return_url_and_base64_of_the_same_image(gateway: RunningGateway, model: str) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"model": model, "n": 2})
    images = answer.json()["data"]
    assert len(images) == 2
    for image in images:
        downloaded = httpx.get(image["url"], trust_env=False).raise_for_status().content
        assert downloaded == base64.b64decode(image["b64_json"])
    assert get_warning_names(answer) == ["model_alias"]


@pytest.mark.parametrize("form", ["url", "b64_json"])
def test_dalle_models_with_response_format_return_that_form_only(gateway: RunningGateway, form: str) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"model": "dall-e-3", "response_format": form})
    assert set(answer.json()["data"][0]) == {form}


@pytest.mark.parametrize("model", ["gpt-image-2", "gpt-image-1", "gpt-image-1-mini", "chatgpt-image-latest", None])
def test_other_models_return_base64_only(gateway: RunningGateway, model: str | None) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"model": model, "response_format": None})
    assert set(answer.json()["data"][0]) == {"b64_json"}


def test_dalle_sizes_are_mapped_to_the_nearest_supported_size(gateway: RunningGateway) -> None:
    for size, ordered, size_warnings in [
        ("256x256", "1024x1024", ["size_mapped"]),
        ("512x512", "1024x1024", ["size_mapped"]),
        ("1024x1024", "1024x1024", []),
        ("1792x1024", "1792x1024", []),
        ("1024x1792", "1024x1792", []),
    ]:
        body = {"model": "dall-e-3", "size": size, "provider": {"only": ["runflow-runs"]}}
        answer = gateway.http.post(IMAGES_PATH, json=BODY | body)
        assert answer.json()["size"] == ordered
        assert get_warning_names(answer) == ["model_alias", *size_warnings], size


@pytest.mark.parametrize("alias", ["gpt-image-1", "dall-e-3"])
def test_alias_of_a_model_is_answered_with_a_warning(gateway: RunningGateway, alias: str) -> None:
    edit = {"files": {"image": make_image(64, 64)}, "data": BODY | {"model": alias}}
    for answer in (
        gateway.http.post(IMAGES_PATH, json=BODY | {"model": alias}),
        gateway.http.post("/v1/images/edits", **edit),
        gateway.http.post(DEPLOYMENT_PATH.format(alias), json=BODY | {"model": ""}, **AZURE_QUERY),
    ):
        assert answer.json()["warnings"] == [
            f"model_alias: '{alias}' is an alias of 'gpt-image-2', which makes the images"
        ]
        assert get_warning_names(answer) == ["model_alias"]


def test_normalization_warnings_are_stored_with_the_job(gateway: RunningGateway) -> None:
    body = BODY | {"size": "512x512", "quality": "hd", "style": "vivid", "provider": {"only": ["runflow-runs"]}}
    first = gateway.http.post(IMAGES_PATH, json=body)
    assert get_warning_names(first) == ["size_mapped", "quality_mapped", "style_ignored"]
    job = gateway.http.get(f"{JOBS_PATH}/{first.headers['x-igw-job-id']}")
    assert job.json()["warnings"] == first.json()["warnings"]
    assert job.headers["x-igw-warnings"] == first.headers["x-igw-warnings"]
    finished = gateway.http.post(JOBS_PATH, json=body, headers={"prefer": "wait=30"})
    assert get_warning_names(finished) == ["size_mapped", "quality_mapped", "style_ignored"]
    accepted = gateway.http.post(JOBS_PATH, json=body)
    assert accepted.json()["warnings"] == first.json()["warnings"], "shown before anything is ordered"


def test_replayed_response_repeats_the_warnings(gateway: RunningGateway) -> None:
    key = {"idempotency-key": str(uuid4())}
    first, second = (gateway.http.post(IMAGES_PATH, json=BODY | {"style": "vivid"}, headers=key) for _ in range(2))
    assert second.headers["idempotent-replayed"] == "true"
    assert get_warning_names(first)[:1] == get_warning_names(second)[:1] == ["style_ignored"]


EQUAL_TO_DEFAULTS: list[dict[str, Any]] = [
    {"output_compression": 100, "output_format": "webp"},
    {"partial_images": 0, "stream": False},
    {"background": "auto", "moderation": "auto", "quality": "auto", "size": "auto"},
    {"background": "opaque", "style": None, "input_fidelity": None, "seed": None, "unheard_of": None},
    {"n": "1", "size": "1024X1024", "output_format": "jpg", "quality": "HIGH", "background": "OPAQUE"},
    {"resolution": "1K", "aspect_ratio": "1:1", "max_seconds": "600", "output_compression": "100", "stream": "false"},
]


@pytest.mark.parametrize("path", [IMAGES_PATH, JOBS_PATH])
@pytest.mark.parametrize("fields", EQUAL_TO_DEFAULTS)
def test_parameters_equal_to_defaults_cause_no_warning(
    gateway: RunningGateway, path: str, fields: dict[str, Any]
) -> None:
    body = BODY | fields | {"provider": {"only": ["runflow-runs"]}}
    answer = gateway.http.post(path, json=body, headers={"prefer": "wait=30"})
    assert get_warning_names(answer) == []


@pytest.mark.parametrize("path", GENERATION_PATHS)
def test_every_openai_and_azure_path_returns_images(gateway: RunningGateway, path: str) -> None:
    answer = gateway.http.post(path, json=BODY, **AZURE_QUERY)
    assert answer.status_code == 200, answer.text
    assert decode_image(answer.json()["data"][0]["b64_json"]).size == (1024, 1024)


@pytest.mark.parametrize("path", GENERATION_PATHS)
def test_errors_on_every_path_have_the_openai_envelope(
    gateway: RunningGateway, anonymous_client: httpx.Client, path: str
) -> None:
    wrong = gateway.http.post(path, json=BODY | {"n": 11}, **AZURE_QUERY)
    unauthorized = anonymous_client.post(path, json=BODY, **AZURE_QUERY)
    missing = gateway.http.post(path.replace("generations", "generation"), json=BODY)
    for answer, status in ((wrong, 400), (unauthorized, 401), (missing, 404), (gateway.http.get(path), 405)):
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_azure_deployment_overrides_the_model_in_the_body(gateway: RunningGateway) -> None:
    for body in ({}, {"model": ""}, {"model": "gpt-image-9"}, {"model": None}):
        answer = gateway.http.post(DEPLOYMENT_PATH.format("dall-e-3"), json=BODY | body, **AZURE_QUERY)
        assert set(answer.json()["data"][0]) == {"url", "b64_json"}
    error = expect_final_error(gateway.http.post(DEPLOYMENT_PATH.format("my%20own"), json=BODY), 404, "model_not_found")
    assert (error["param"], "my own" in error["message"]) == ("model", True)


@pytest.mark.parametrize("header", ["api-key", "x-api-key", "API-KEY"])
def test_api_key_is_accepted_in_azure_headers(anonymous_client: httpx.Client, header: str) -> None:
    assert anonymous_client.post(IMAGES_PATH, json=BODY, headers={header: API_KEY}).status_code == 200
    assert anonymous_client.post(JOBS_PATH, json=BODY, headers={header: API_KEY}).status_code == 202
    basic = {"authorization": "Basic eDp5", header: API_KEY}
    assert anonymous_client.post(IMAGES_PATH, json=BODY, headers=basic).status_code == 200
    wrong = anonymous_client.post(IMAGES_PATH, json=BODY, headers={header: "igw_nobody"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer igw_nobody", "api-key": API_KEY},
        {"api-key": "igw_nobody", "x-api-key": API_KEY},
    ],
)
def test_only_the_first_of_several_api_keys_is_used(anonymous_client: httpx.Client, headers: dict[str, str]) -> None:
    assert anonymous_client.post(IMAGES_PATH, json=BODY, headers=headers).status_code == 401


def test_api_keys_are_never_logged(gateway: RunningGateway, anonymous_client: httpx.Client) -> None:
    secret = f"igw_secret_{uuid4().hex}"
    for header in ("api-key", "x-api-key"):
        anonymous_client.post(IMAGES_PATH, json=BODY, headers={header: secret})
    assert secret not in gateway.stderr
