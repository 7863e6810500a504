"""Every invalid request is a 4xx that says what to do, in the format of its route, and nothing is ordered."""

import json
from typing import Any

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, JSON_HEADERS, expect_final_error
from tests.harness.gateway_runner import RunningGateway

BODY = {"prompt": "a lighthouse"}
INVALID_BODIES = {
    "an empty body": (b"", "empty"),
    "blanks": (b" \n ", "empty"),
    "a list": (b"[]", "must be a JSON object"),
    "null": (b"null", "must be a JSON object"),
    "text": (b'"a"', "must be a JSON object"),
    "a number": (b"5", "must be a JSON object"),
    "a truncated object": (b'{"prompt":', "Invalid JSON"),
    "text after the object": (b'{"prompt": "a"} {}', "Invalid JSON"),
    "words": (b"draw a lighthouse", "Invalid JSON"),
    "a form": (b"prompt=a", "Invalid JSON"),
    "NaN": (b'{"prompt": "a", "n": NaN}', "Invalid JSON"),
    "Infinity": (b'{"prompt": "a", "max_seconds": Infinity}', "Invalid JSON"),
    "1e999": (b'{"prompt": "a", "max_seconds": 1e999}', "out of range"),
    "5,000 digits": (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", "out of range"),
    "5,000 digits in an unknown field": (b'{"seed": ' + b"9" * 5000 + b', "prompt": "a"}', "out of range"),
    "an unpaired surrogate": (b'{"prompt": "\\ud800"}', "unpaired surrogate"),
    "an unpaired surrogate in a name": (b'{"prompt": "a", "\\udc00": 1}', "unpaired surrogate"),
    "two surrogates in the wrong order": (b'{"prompt": "\\udc00\\ud800"}', "unpaired surrogate"),
    "a byte that is not UTF-8": (b'{"prompt": "\xff"}', "not valid UTF-8"),
    "a surrogate in UTF-8": (b'{"prompt": "\xed\xa0\x80"}', "not valid UTF-8"),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16"), "not valid UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"prompt": "a"}', "byte order mark"),
    "5,000 lists": (b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper"),
    "100,000 lists": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
    "a million nested lists": (b"[" * 1_000_000, "nested deeper"),
    "200,000 nested objects": (b'{"a":' * 200_000, "nested deeper"),
    "a name twice": (b'{"prompt": "a", "n": 1, "n": 10}', "Duplicate parameter 'n'"),
    "a name twice in an inner object": (
        b'{"prompt": "a", "metadata": {"k": "1", "k": "2"}}',
        "Duplicate parameter 'k'",
    ),
}
INVALID_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": ({"promt": "a"}, "promt", "did you mean 'prompt'?"),
    "a field of another API": ({"api_base": "https://example.com"}, "api_base", "Unknown parameter: 'api_base'"),
    "an unknown field in an inner object": ({"provider": {"order": ["runapi"]}}, "provider.order", "Unknown parameter"),
    **{
        f"a blank prompt: {name}": ({"prompt": blank}, "prompt", "Invalid value for 'prompt': must not be blank.")
        for name, blank in {"blanks": "   ", "a line break": "\n", "wide blanks": "\u3000\u00a0\t"}.items()
    },
    "no prompt": ({"prompt": None}, "prompt", "Missing required parameter: 'prompt'."),
    "an empty prompt": ({"prompt": ""}, "prompt", "must not be empty"),
    "a number as prompt": ({"prompt": 5}, "prompt", "must be text, not a whole number"),
    "a prompt that is too long": ({"prompt": "é" * 32_001}, "prompt", "at most 32000 characters"),
    "text as n": ({"n": "one"}, "n", "must be a whole number, not text"),
    "a fraction as text": ({"n": "1.5"}, "n", "must be a whole number, not text"),
    "eleven images as text": ({"n": "11"}, "n", "must be at most 10"),
    "true as n": ({"n": True}, "n", "must be a whole number, not true or false"),
    "a fraction as n": ({"n": 1.5}, "n", "must be a whole number"),
    "no images": ({"n": 0}, "n", "must be at least 1"),
    "a negative number of images": ({"n": -1}, "n", "must be at least 1"),
    "eleven images": ({"n": 11}, "n", "must be at most 10"),
    "a billion images": ({"n": 10**9}, "n", "must be at most 10"),
    "a number of 21 digits": ({"n": 10**20}, "n", "must be at most 10"),
    "an invalid size": ({"size": "large"}, "size", "must look like 1536x1024"),
    "a size of numbers": ({"size": [1024, 1024]}, "size", "must be text, not a list"),
    "a size of no multiples of 16": ({"size": "1000x1000"}, "size", "multiples of 16"),
    "too small a size": ({"size": "16x16"}, "size", "not possible"),
    "too large a size": ({"size": "99984x99984"}, "size", "not possible"),
    "too narrow a size": ({"size": "3840x640"}, "size", "not possible"),
    "a negative size": ({"size": "-1024x1024"}, "size", "must look like"),
    "contradicting size and resolution": (
        {"size": "1024x1024", "resolution": "2k"},
        "resolution",
        "Send only one of them",
    ),
    "an unknown resolution": ({"resolution": "9k"}, "resolution", "Use one of 1k, 2k, 4k"),
    "an invalid ratio": ({"aspect_ratio": "wide"}, "aspect_ratio", "must look like 16:9"),
    "an extreme ratio": ({"aspect_ratio": "9:1", "resolution": "2k"}, "aspect_ratio", "outside 1:3 to 3:1"),
    "an unknown quality": ({"quality": "ultra"}, "quality", "must be one of auto, low, medium, high"),
    "an unknown format": ({"output_format": "gif"}, "output_format", "must be one of auto, png, jpeg, webp"),
    "a compression of PNG": ({"output_compression": 80}, "output_compression", "use jpeg or webp"),
    "too much compression": ({"output_compression": 101}, "output_compression", "must be at most 100"),
    "too many partial images": ({"partial_images": 4}, "partial_images", "must be at most 3"),
    "a truth value as number of partial images": ({"partial_images": False}, "partial_images", "not true or false"),
    "an unknown style": ({"style": "cubist"}, "style", "must be one of natural, vivid"),
    "an unknown fidelity": ({"input_fidelity": "max"}, "input_fidelity", "must be one of high, low"),
    "a background that no seller offers": ({"background": "transparent"}, "background", "must be one of auto, opaque"),
    "a seed": ({"seed": 7}, "seed", "no seller can repeat an image"),
    "a seed as text": ({"seed": "7"}, "seed", "'seed' is not supported"),
    "markup": ({"markup": "a"}, "markup", "Send a mask"),
    "frames": ({"frame_count": 9}, "frame_count", "'frame_count' is not supported"),
    "time between frames": ({"frame_duration_ms": 200}, "frame_duration_ms", "Omit it"),
    "complexity": ({"complexity": "high"}, "complexity", "choose a quality"),
    "options of an SVG": ({"svg": {"model": "gpt-5", "reasoning": {"effort": "low"}}}, "svg", "use png, jpeg or webp"),
    "an unknown policy": ({"policy": "cheap"}, "policy", "cheapest"),
    "an unknown seller": ({"provider": {"only": ["runapj"]}}, "provider.only", "did you mean 'runapi'?"),
    "an unknown seller to ignore": ({"provider": {"ignore": ["x"]}}, "provider.ignore", "Seller 'x' not found"),
    "an empty list of sellers": ({"provider": {"only": []}}, "provider.only", "Omit it"),
    "an invalid price": ({"max_price": "cheap"}, "max_price", "Invalid amount"),
    "a negative price": ({"max_price": "-1"}, "max_price", "cannot be negative"),
    "a negative price as a number": ({"max_cost": -0.5}, "max_cost", "cannot be negative"),
    "too precise a price": ({"max_price": 0.0000001}, "max_price", "Invalid amount"),
    "negative seconds": ({"max_seconds": 0}, "max_seconds", "must be more than 0"),
    "too many seconds": ({"max_seconds": 1e300}, "max_seconds", "must be at most 86400"),
    "numbers as metadata": ({"metadata": {"a": 1}}, "metadata", "must be text"),
    "too many entries of metadata": (
        {"metadata": {str(number): "a" for number in range(17)}},
        "metadata",
        "at most 16 entries",
    ),
    "a long name in metadata": ({"metadata": {"k" * 201: "a"}}, "metadata", "at most 200 characters"),
    "a list as metadata": ({"metadata": ["a"]}, "metadata", "must be an object, not a list"),
    "a long name": ({"user": "u" * 201}, "user", "at most 200 characters"),
}


@pytest.fixture(autouse=True)
def _expect_no_purchase(gateway: RunningGateway) -> Any:
    before = gateway.sandbox.list_charges()
    yield
    assert gateway.sandbox.list_charges() == before
    gateway.expect_no_problem()


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize("case", INVALID_BODIES)
def test_body_that_is_not_a_json_object_is_rejected(gateway: RunningGateway, path: str, case: str) -> None:
    body, words = INVALID_BODIES[case]
    error = expect_final_error(gateway.http.post(path, content=body, headers=JSON_HEADERS), 400)
    assert words in error["message"]


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize("case", INVALID_FIELDS)
def test_error_names_the_invalid_field(gateway: RunningGateway, path: str, case: str) -> None:
    fields, param, words = INVALID_FIELDS[case]
    error = expect_final_error(gateway.http.post(path, json=BODY | fields), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
def test_unknown_model_is_404_and_lists_the_known_models(gateway: RunningGateway, path: str) -> None:
    error = expect_final_error(gateway.http.post(path, json=BODY | {"model": "gpt-image-9"}), 404, "model_not_found")
    assert error["param"] == "model"
    assert "gpt-image-2" in error["message"]


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_price": "0.001"}, "$0.06 per image is above $0.001"),
        ({"max_price": 0.001}, "$0.06 per image is above $0.001"),
        ({"max_cost": "0.10", "n": 2}, "above $0.10"),
        ({"max_seconds": 0.01}, "runapi: "),
        ({"max_price": "0.001", "provider": {"only": ["runflow-run"]}}, "runapi: not listed in 'only'"),
    ],
)
def test_unfulfillable_limit_lists_the_reason_of_each_seller(
    gateway: RunningGateway, path: str, limit: dict[str, Any], words: str
) -> None:
    error = expect_final_error(gateway.http.post(path, json=BODY | limit), 400, "no_offer")
    assert words in error["message"]
    assert all(f"{seller}: " in error["message"] for seller in ("runapi", "runflow-run", "runflow-runs"))


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ";", ""]
)
def test_other_content_types_are_415(gateway: RunningGateway, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = gateway.http.post(path, content=json.dumps(BODY).encode(), headers=headers)
    assert "application/json" in expect_final_error(answer, 415, "unsupported_media_type")["message"]


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "missing_api_key"),
        ("Basic aWd3OnNhbmRib3g=", "missing_api_key"),
        ("igw_sandbox", "missing_api_key"),
        ("Bearer igw_sandbo", "invalid_api_key"),
        ("Bearer igw_sandbox2", "invalid_api_key"),
        ("Bearer IGW_SANDBOX", "invalid_api_key"),
        ("Bearer igw_sandbox igw_sandbox", "invalid_api_key"),
        ("Bearer " + "x" * 10_000, "invalid_api_key"),
    ],
)
def test_missing_or_invalid_key_is_rejected_before_the_body_is_read(
    gateway: RunningGateway, path: str, header: str, code: str
) -> None:
    answer = gateway.http.post(path, content=b"{", headers={"authorization": header, **JSON_HEADERS})
    error = expect_final_error(answer, 401, code)
    assert error["type"] == "authentication_error"
    assert "igw_sandbox" not in answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", IMAGES_PATH, "POST"),
        ("DELETE", IMAGES_PATH, "POST"),
        ("OPTIONS", IMAGES_PATH, "POST"),
        ("PROPFIND", IMAGES_PATH, "POST"),
        ("PUT", JOBS_PATH, "GET, HEAD, POST"),
        ("OPTIONS", JOBS_PATH, "GET, HEAD, POST"),
        ("PATCH", f"{JOBS_PATH}/job_1", "DELETE, GET, HEAD"),
        ("OPTIONS", f"{JOBS_PATH}/job_1", "DELETE, GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("OPTIONS", "/readyz", "GET, HEAD"),
        ("DELETE", "/files/00/job_1/image-0.png", "GET, HEAD"),
    ],
)
def test_wrong_method_is_405_with_the_allowed_methods(
    gateway: RunningGateway, method: str, path: str, allowed: str
) -> None:
    answer = gateway.http.request(method, path)
    expect_final_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v2/jobs", "/v1/jobs/a/b", "/v1/images", "/v1/images/nothing", "/files/", "/%00", "/.."],
)
def test_unknown_route_is_404(gateway: RunningGateway, path: str) -> None:
    expect_final_error(gateway.http.post(path, json=BODY), 404, "route_not_found")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/image/generations", IMAGES_PATH),
        ("/v1/v1/images/generations", IMAGES_PATH),
        ("/v1/images/generation", IMAGES_PATH),
        ("/V1/IMAGES/GENERATION", IMAGES_PATH),
        ("/v1/job", JOBS_PATH),
        ("/jobs", JOBS_PATH),
        ("/jobs/job_48nka7p8pc7avmya1bpy29g0nk5p", f"{JOBS_PATH}/job_48nka7p8pc7avmya1bpy29g0nk5p"),
        ("/v1/job/job_48nka7p8pc7avmya1bpy29g0nk5p", f"{JOBS_PATH}/job_48nka7p8pc7avmya1bpy29g0nk5p"),
        ("/metric", "/metrics"),
        ("/ready", "/readyz"),
        ("/file/00/job_1/image-0.png", None),
        ("/" + "v1/jobs/" * 1_000, None),
    ],
)
def test_unknown_route_error_suggests_the_nearest_route(gateway: RunningGateway, path: str, meant: str | None) -> None:
    for method in ("GET", "POST"):
        message = expect_final_error(gateway.http.request(method, path), 404, "route_not_found")["message"]
        if meant is not None:
            charge = " You were not charged." if method == "POST" else ""
            assert message == f"Route not found; did you mean '{meant}'?{charge}"
        else:
            assert all(route in message for route in (IMAGES_PATH, JOBS_PATH, "/livez")), message
        assert "/callbacks" not in message
        assert "/files/{key" not in message


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/audio/speech", "audio"),
        ("/v1/audio/transcriptions", "audio"),
        ("/v1/moderations", "moderations"),
        ("/v1/videos/video_1", "videos"),
        ("/chat/completions", "chat"),
        ("//v1//embeddings/", "embeddings"),
        ("/openai/deployments/gpt-5/chat/completions", "chat"),
        ("/openai/v1/embeddings", "embeddings"),
    ],
)
def test_other_apis_of_openai_are_answered_plainly(gateway: RunningGateway, path: str, api: str) -> None:
    answer = httpx.post(f"{gateway.url}{path}", json={}, trust_env=False)
    message = expect_final_error(answer, 404, "route_not_found")["message"]
    assert message.startswith(f"This gateway serves images only, and has no route for '{api}'. Routes: ")
    assert all(route in message for route in (IMAGES_PATH, JOBS_PATH, "/v1/images/edits", "/v1/responses"))
    assert "/admin" not in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "path", ["/v1/images", "/v1/embedding", "/v1/rerank", "/v1/engines", "/v1/chats", "/v1/videos2", "/healthz", "/v1"]
)
def test_no_route_is_suggested_for_a_path_that_is_not_close(gateway: RunningGateway, path: str) -> None:
    message = expect_final_error(gateway.http.get(path), 404, "route_not_found")["message"]
    assert message.startswith("Route not found. Routes: ")


def test_error_for_an_unknown_job_says_what_to_do(gateway: RunningGateway) -> None:
    message = expect_final_error(gateway.http.get(f"{JOBS_PATH}/job_x"), 404, "job_not_found")["message"]
    assert message == (
        "Job not found. Check its id; a key finds only jobs of its own team, until they are deleted or their "
        "retention ends."
    )


@pytest.mark.parametrize("name", ["job_x", "job_" + "9" * 28, "x" * 5_000, "job_39%00", "%2e%2e", "é", "'"])
def test_unknown_job_is_404(gateway: RunningGateway, name: str) -> None:
    expect_final_error(gateway.http.get(f"{JOBS_PATH}/{name}"), 404, "job_not_found")


@pytest.mark.parametrize("wait", ["abc", "-1", "1.5", "٣", "1e3"])
def test_wait_must_be_a_number_of_seconds(gateway: RunningGateway, wait: str) -> None:
    error = expect_final_error(gateway.http.get(f"{JOBS_PATH}/job_x", params={"wait": wait}), 400, "invalid_value")
    assert error["param"] == "wait"


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", "clé".encode(), b"x" * 10_000])
def test_idempotency_key_is_limited_to_255_visible_characters(gateway: RunningGateway, path: str, key: bytes) -> None:
    answer = gateway.http.post(path, json=BODY, headers={"idempotency-key": key})
    assert "255" in expect_final_error(answer, 400, "invalid_idempotency_key")["message"]


def test_edit_needs_an_input_image_and_generation_accepts_none(gateway: RunningGateway) -> None:
    error = expect_final_error(
        gateway.http.post(JOBS_PATH, json=BODY | {"operation": "edit"}), 400, "missing_required_parameter"
    )
    assert error["param"] == "image"
    with_image = {"image": {"b64_json": "AAAA"}}
    assert expect_final_error(gateway.http.post(JOBS_PATH, json=BODY | with_image), 400)["param"] == "image"
    both = {"operation": "edit", "image": {"b64_json": "AAAA", "image_url": "https://example.com/a.png"}}
    assert "either" in expect_final_error(gateway.http.post(JOBS_PATH, json=BODY | both), 400)["message"]


@pytest.mark.parametrize("given", ["nonsense", "", "example.com/a.png", "R0lGODlhAQABAAAAACw="])
def test_invalid_input_image_error_lists_the_accepted_forms(gateway: RunningGateway, given: str) -> None:
    for field in ({"image": given}, {"images": [given]}, {"image": {"image_url": given}}):
        error = expect_final_error(
            gateway.http.post(JOBS_PATH, json=BODY | {"operation": "edit"} | field), 400, "invalid_image"
        )
        assert error["param"] == next(iter(field))
        assert all(form in error["message"] for form in ("https://", "data:image/png;base64,", "b64_json"))


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:6379/",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "https://[::1]/",
        "http://2130706433/",
    ],
)
def test_input_image_urls_in_local_networks_get_one_common_error(gateway: RunningGateway, address: str) -> None:
    """All such URLs get the same response, so that it reveals nothing about the gateway's network."""
    answer = gateway.http.post(JOBS_PATH, json=BODY | {"operation": "edit", "image": address})
    assert expect_final_error(answer, 400, "invalid_image_url")["message"] == (
        "The image URL in 'image' could not be downloaded. Use a public https:// URL, or send the image. "
        "You were not charged."
    )
