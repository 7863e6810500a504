"""Edits as forms and as JSON: every way to send images, aliases, retries that attach, and variations."""

import base64
import itertools
import re
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.error_responses import EDITS_PATH, JOBS_PATH, expect_final_error
from tests.api.raw_http import POST_IMAGE, connect
from tests.harness.form_bodies import BOUNDARY, FORM_CONTENT_TYPE, FORM_HEADERS, make_form, make_part
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, encode_data_uri, make_image
from tests.harness.wait import wait_for_value

EDIT_PATHS = [
    EDITS_PATH,
    "/images/edits",
    "/openai/v1/images/edits",
    "/openai/deployments/gpt-image-1/images/edits?api-version=2025-04-01-preview",
]
IMAGES = [make_image(96, 64), make_image(64, 64, "JPEG"), make_image(32, 32, "WEBP")]
MASK = make_image(96, 64, mode="RGBA")
PROMPT = make_part("prompt", "at night")
IMAGE = make_part("image", IMAGES[0], filename="upload")
MIB = 1 << 20


def post_form(gateway: RunningGateway, *parts: bytes, path: str = EDITS_PATH, **headers: str) -> httpx.Response:
    return gateway.http.post(path, content=make_form(*parts), headers=FORM_HEADERS | headers)


def read_inputs(gateway: RunningGateway, answer: httpx.Response) -> dict[str, bytes]:
    """Returns the stored input images of the job by name."""
    assert answer.status_code in (200, 202), answer.text[:500]
    folder: Path = gateway.folder / "data" / "images"
    files = folder.rglob(f"{answer.headers['x-igw-job-id']}.*")
    named = {path.name.split(".", 1)[1]: path.read_bytes() for path in files}
    return {name: data for name, data in sorted(named.items()) if name.startswith(("input", "mask"))}


def get_job(gateway: RunningGateway, answer: httpx.Response) -> dict[str, Any]:
    job: dict[str, Any] = gateway.http.get(f"{JOBS_PATH}/{answer.headers['x-igw-job-id']}").json()
    return job


@pytest.mark.parametrize("path", EDIT_PATHS)
def test_every_path_edits_a_form_and_json(gateway: RunningGateway, path: str) -> None:
    for answer in (
        post_form(gateway, PROMPT, IMAGE, path=path),
        gateway.http.post(path, json={"prompt": "at night", "image": encode_data_uri(IMAGES[0])}),
    ):
        assert read_inputs(gateway, answer) == {"input-0.png": IMAGES[0]}
        assert decode_image(answer.json()["data"][0]["b64_json"]).width
        assert get_job(gateway, answer)["operation"] == "edit"


def test_parts_may_come_in_any_order(gateway: RunningGateway) -> None:
    parts = [PROMPT, IMAGE, make_part("model", "gpt-image-2"), make_part("mask", MASK, filename="mask.png")]
    for order in itertools.islice(itertools.permutations(parts), 0, None, 7):
        answer = post_form(gateway, *order)
        assert read_inputs(gateway, answer) == {"input-0.png": IMAGES[0], "mask.png": MASK}


IMAGE_NAMES = {
    "repeated": ["image", "image", "image"],
    "brackets": ["image[]", "image[]", "image[]"],
    "indices": ["image[0]", "image[1]", "image[2]"],
    "as in JSON": ["images[]", "images[]", "images[]"],
}


@pytest.mark.parametrize("kind", IMAGE_NAMES)
def test_several_images_keep_their_order(gateway: RunningGateway, kind: str) -> None:
    images = [
        make_part(name, data, "Content-Type: application/octet-stream", filename="blob")
        for name, data in zip(IMAGE_NAMES[kind], IMAGES, strict=True)
    ]
    answer = post_form(gateway, *images, PROMPT)
    assert read_inputs(gateway, answer) == dict(
        zip(["input-0.png", "input-1.jpeg", "input-2.webp"], IMAGES, strict=True)
    )


def test_images_by_url_data_uri_and_file_are_accepted_in_one_form(gateway: RunningGateway) -> None:
    answer = post_form(
        gateway,
        make_part("image[]", encode_data_uri(IMAGES[1], "jpeg")),
        make_part("image[]", IMAGES[0], "Content-Type: text/html", filename="../../etc/passwd"),
        make_part("image[]", base64.b64encode(IMAGES[0])),
        PROMPT,
    )
    assert list(read_inputs(gateway, answer).values()) == [IMAGES[1], IMAGES[0], IMAGES[0]]


def test_text_fields_of_a_form_apply_as_in_json(gateway: RunningGateway) -> None:
    fields = [
        ("n", "2"),
        ("size", "1536X1024"),
        ("quality", "HIGH"),
        ("output_format", "webp"),
        ("response_format", "url"),
        ("stream", "false"),
        ("background", ""),
        ("input_fidelity", "high"),
        ("provider[only][]", "runflow-runs"),
        ("provider[ignore][0]", "runapi"),
        ("metadata[campaign]", "spring"),
    ]
    answer = post_form(gateway, PROMPT, *[make_part(*field) for field in fields], IMAGE)
    assert answer.status_code == 200, answer.text
    assert [set(image) for image in answer.json()["data"]] == [{"url"}] * 2
    assert answer.json()["output_format"] == "webp"
    assert answer.headers["x-igw-seller"] == "runflow-runs"
    assert "input_fidelity_ignored" in answer.headers["x-igw-warnings"]
    job = get_job(gateway, answer)
    assert job["metadata"] == {"campaign": "spring"}
    assert (job["requested"]["size"], job["requested"]["quality"]) == ("1536X1024", "HIGH")


def test_unused_file_input_of_a_browser_is_absent(gateway: RunningGateway) -> None:
    unused = make_part("mask", b"", "Content-Type: application/octet-stream", filename="")
    assert read_inputs(gateway, post_form(gateway, PROMPT, unused, IMAGE)) == {"input-0.png": IMAGES[0]}


def test_dalle_client_gets_urls_and_base64(gateway: RunningGateway) -> None:
    answer = post_form(gateway, IMAGE, PROMPT, make_part("model", "dall-e-2"), make_part("size", "512x512"))
    assert set(answer.json()["data"][0]) == {"url", "b64_json"}


JSON_IMAGES: dict[str, dict[str, Any]] = {
    "a text": {"image": encode_data_uri(IMAGES[0])},
    "a list": {"image": [encode_data_uri(IMAGES[0])]},
    "images": {"images": [{"image_url": encode_data_uri(IMAGES[0]), "file_id": None}]},
    "images as texts": {"images": [encode_data_uri(IMAGES[0])]},
    "images as one text": {"images": encode_data_uri(IMAGES[0])},
    "base64": {"image": {"b64_json": base64.b64encode(IMAGES[0]).decode()}},
    "base64 with line breaks": {"image": base64.encodebytes(IMAGES[0]).decode()},
    "base64 with blanks": {
        "image": {"b64_json": f"\r\n\t {base64.encodebytes(IMAGES[0]).decode()} \t".replace("A", " A")}
    },
    "a data URI in capitals": {
        "image": encode_data_uri(IMAGES[0]).replace("data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,")
    },
    "a data URI in mixed case": {"images": [{"image_url": encode_data_uri(IMAGES[0]).replace("data:", "Data:")}]},
    "a data URI with blanks": {"image": f" {encode_data_uri(IMAGES[0])}\n".replace("base64,", "base64,\n ")},
    "a data URI with parameters": {"image": encode_data_uri(IMAGES[0]).replace(";", ";charset=utf-8;name=a.png;")},
    "a data URI as base64": {"image": {"b64_json": encode_data_uri(IMAGES[0]).replace("data:", "DATA:")}},
}


@pytest.mark.parametrize("kind", JSON_IMAGES)
def test_json_accepts_images_in_every_form(gateway: RunningGateway, kind: str) -> None:
    body = {"prompt": "at night", "mask": {"image_url": encode_data_uri(MASK)}} | JSON_IMAGES[kind]
    answer = gateway.http.post(EDITS_PATH, json=body)
    assert read_inputs(gateway, answer) == {"input-0.png": IMAGES[0], "mask.png": MASK}


def test_form_accepts_base64_with_line_breaks(gateway: RunningGateway) -> None:
    text = make_part("image", b"DATA:image/png;BASE64,\r\n" + base64.encodebytes(IMAGES[0]))
    assert read_inputs(gateway, post_form(gateway, text, PROMPT)) == {"input-0.png": IMAGES[0]}


@pytest.mark.parametrize(
    "text", ["data:", "DATA:image/png;base64,", "data:image/png;base64, \n", "data:image/png,%89PNG"]
)
def test_data_uri_without_an_image_is_rejected(gateway: RunningGateway, text: str) -> None:
    error = expect_final_error(gateway.http.post(EDITS_PATH, json={"prompt": "at night", "image": text}), 400)
    assert error["param"] == "image"
    assert error["code"] in ("empty_image_file", "invalid_base64_image")


@pytest.mark.parametrize("field", ["image", "images", "mask"])
def test_file_id_is_refused_by_name(gateway: RunningGateway, field: str) -> None:
    value: Any = {"file_id": "file-1"}
    body = {"prompt": "a", "image": encode_data_uri(IMAGES[0]), field: [value] if field == "images" else value}
    error = expect_final_error(gateway.http.post(EDITS_PATH, json=body), 400, "unsupported_parameter")
    assert error["param"] == {"images": "images[0].file_id"}.get(field, f"{field}.file_id")
    assert "image_url" in error["message"]


def test_job_may_be_created_with_a_form(gateway: RunningGateway) -> None:
    operation = make_part("operation", "edit")
    answer = post_form(gateway, IMAGE, PROMPT, operation, path=JOBS_PATH, prefer="wait=30")
    assert answer.json()["status"] == "completed", answer.text
    assert read_inputs(gateway, answer) == {"input-0.png": IMAGES[0]}


# Errors


@pytest.mark.parametrize("path", [EDITS_PATH, JOBS_PATH])
@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/mixed; boundary=a", "image/png"]
)
def test_other_content_types_are_rejected(gateway: RunningGateway, path: str, content_type: str) -> None:
    answer = gateway.http.post(path, content=make_form(PROMPT, IMAGE), headers={"content-type": content_type})
    message = expect_final_error(answer, 415, "unsupported_media_type")["message"]
    assert "multipart/form-data" in message
    assert "application/json" in message


def test_form_for_a_generation_is_rejected(gateway: RunningGateway) -> None:
    message = expect_final_error(
        post_form(gateway, PROMPT, IMAGE, path="/v1/images/generations"), 415, "unsupported_media_type"
    )["message"]
    assert "multipart" not in message


def test_compressed_form_is_rejected(gateway: RunningGateway) -> None:
    expect_final_error(post_form(gateway, PROMPT, IMAGE, **{"content-encoding": "gzip"}), 415, "unsupported_encoding")


def make_file(data: bytes, name: str = "image") -> bytes:
    return make_part(name, data, filename="a.png")


INVALID_EDITS: dict[str, tuple[list[bytes], int, str, str]] = {
    "no image": ([PROMPT], 400, "missing_required_parameter", "image"),
    "no prompt": ([IMAGE], 400, "missing_required_parameter", "prompt"),
    "an empty file": ([PROMPT, make_file(b"")], 400, "empty_image_file", "image"),
    "an empty mask": ([PROMPT, IMAGE, make_file(b"", "mask")], 400, "empty_image_file", "mask"),
    "a GIF": ([PROMPT, make_file(b"GIF89a" + bytes(50))], 400, "unsupported_image_media_type", "image"),
    "a PDF": ([PROMPT, make_file(b"%PDF-1.7")], 400, "unsupported_image_media_type", "image"),
    "a text file": ([PROMPT, make_file(b"hello")], 400, "unsupported_image_media_type", "image"),
    "a large text file": ([PROMPT, make_file(b"hello" * MIB)], 400, "unsupported_image_media_type", "image"),
    "a text": ([PROMPT, make_part("image", "<_io.BytesIO object>")], 400, "invalid_image", "image"),
    "a truncated image": ([PROMPT, make_file(IMAGES[0][:-20])], 400, "invalid_image", "image"),
    "a mask of another size": (
        [PROMPT, IMAGE, make_file(make_image(9, 9, mode="RGBA"), "mask")],
        400,
        "invalid_image",
        "mask",
    ),
    "a mask without alpha": ([PROMPT, IMAGE, make_file(IMAGES[0], "mask")], 400, "invalid_image_mode", "mask"),
    "two masks": ([PROMPT, IMAGE, *[make_file(MASK, "mask")] * 2], 400, "duplicate_parameter", "mask"),
    "two prompts": ([PROMPT, PROMPT, IMAGE], 400, "duplicate_parameter", "prompt"),
    "a prompt file": ([make_file(b"at night", "prompt"), IMAGE], 400, "invalid_value", "prompt"),
    "17 images": ([PROMPT, *[IMAGE] * 17], 400, "invalid_value", "image"),
    "200 images": ([PROMPT, *[IMAGE] * 200], 400, "invalid_value", "image"),
    "an image of 50 MiB and a byte": (
        [PROMPT, make_file(IMAGES[0] + bytes(50 * MIB + 1 - len(IMAGES[0])))],
        413,
        "image_too_large",
        "image",
    ),
    "markup": ([PROMPT, IMAGE, make_file(MASK, "markup")], 400, "unsupported_parameter", "markup"),
    "an unknown field": ([PROMPT, IMAGE, make_part("promt", "a")], 400, "unknown_parameter", "promt"),
    "n above its limit": ([PROMPT, IMAGE, make_part("n", "11")], 400, "invalid_value", "n"),
    "a file id": (
        [PROMPT, make_part("images[0][file_id]", "file-1")],
        400,
        "unsupported_parameter",
        "images[0].file_id",
    ),
}


@pytest.mark.parametrize("kind", INVALID_EDITS)
def test_invalid_edit_error_names_the_field(gateway: RunningGateway, kind: str) -> None:
    parts, status, code, param = INVALID_EDITS[kind]
    before = gateway.sandbox.list_charges()
    assert expect_final_error(post_form(gateway, *parts), status, code)["param"] == param
    assert gateway.sandbox.list_charges() == before


@pytest.mark.parametrize(
    ("size", "fields", "is_warned"),
    [
        ((800, 500), {}, True),
        ((3000, 10), {}, True),
        ((800, 500), {"size": "1280x800"}, False),
        ((800, 500), {"aspect_ratio": "1:1"}, False),
        ((96, 64), {}, False),
    ],
)
def test_automatic_size_of_another_ratio_is_warned_about(
    gateway: RunningGateway, size: tuple[int, int], fields: dict[str, str], is_warned: bool
) -> None:
    body = {"prompt": "at night", "image": encode_data_uri(make_image(*size)), **fields}
    answer = gateway.http.post(EDITS_PATH, json=body)
    quote = gateway.http.post("/v1/quotes", json={**body, "operation": "edit"}).json()
    assert answer.status_code == 200, answer.text[:300]
    for warnings in (answer.headers.get("x-igw-warnings", ""), str(quote["warnings"])):
        assert (f"the nearest ratio to the first image's {size[0]}x{size[1]}" in warnings) is is_warned


def test_sixteen_images_are_accepted(gateway: RunningGateway) -> None:
    assert len(read_inputs(gateway, post_form(gateway, PROMPT, *[IMAGE] * 16))) == 16


def test_body_above_its_limit_is_rejected(gateway: RunningGateway) -> None:
    large = make_form(PROMPT, *[make_part("image[]", bytes(33 * MIB), filename="a")] * 2)
    for content in (large, iter([large[: MIB * 40], large[MIB * 40 :]])):
        answer = gateway.http.post(EDITS_PATH, content=content, headers=FORM_HEADERS)
        assert "64 MiB" in expect_final_error(answer, 413, "body_too_large")["message"]


@pytest.mark.parametrize("path", [path.replace("edits", "variations") for path in EDIT_PATHS])
def test_variations_are_answered_as_retired(gateway: RunningGateway, path: str) -> None:
    error = expect_final_error(post_form(gateway, IMAGE, path=path), 410, "endpoint_retired")
    assert re.search(r"/images/edits\b", error["message"])
    assert httpx.post(gateway.url + path, trust_env=False).status_code == 401
    assert gateway.http.get(path).status_code == 405


# Retries


def post_retry(gateway: RunningGateway, boundary: str, retry: int, *parts: bytes) -> httpx.Response:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "x-stainless-retry-count": str(retry)}
    return gateway.http.post(EDITS_PATH, content=make_form(*parts, boundary=boundary), headers=headers)


def test_retry_with_another_boundary_attaches_to_its_job(gateway: RunningGateway) -> None:
    before = len(gateway.sandbox.list_charges())
    prompt, large = make_part("prompt", f"at night {uuid4()}"), make_part("mask", MASK + bytes(2 * MIB), filename="m")
    first = post_retry(gateway, BOUNDARY, 0, prompt, IMAGE, large)
    second = post_retry(gateway, "another", 1, prompt, IMAGE, large)
    third = post_retry(gateway, "third", 2, large, IMAGE, prompt)
    assert {answer.headers["x-igw-job-id"] for answer in (first, second, third)} == {first.headers["x-igw-job-id"]}
    assert [answer.headers.get("idempotent-replayed") for answer in (first, second, third)] == [None, "true", "true"]
    assert first.json()["data"] == third.json()["data"]
    assert len(gateway.sandbox.list_charges()) - before == 1
    other = post_retry(gateway, BOUNDARY, 1, prompt, make_part("image", IMAGES[1], filename="upload"))
    assert "idempotent-replayed" not in other.headers


def test_idempotency_key_recognizes_the_same_form(gateway: RunningGateway) -> None:
    key = {"idempotency-key": str(uuid4())}
    first, second = (post_form(gateway, *parts, **key) for parts in ((PROMPT, IMAGE), (IMAGE, PROMPT)))
    assert (second.headers["x-igw-job-id"], second.headers["idempotent-replayed"]) == (
        first.headers["x-igw-job-id"],
        "true",
    )
    expect_final_error(post_form(gateway, PROMPT, IMAGE, make_part("n", "2"), **key), 422, "idempotency_key_reused")


# Large uploads


def wait_until_uploads_are_closed(gateway: RunningGateway) -> None:
    """Temporary files have no name, and exist while the gateway maps them."""
    maps = Path(f"/proc/{gateway.process.pid}/maps")
    wait_for_value(
        lambda: [line for line in maps.read_text().splitlines() if f"{gettempdir()}/" in line and "(deleted)" in line],
        lambda lines: not lines,
        "all uploads are closed",
    )


def test_large_images_are_stored_from_the_disk(gateway: RunningGateway) -> None:
    large = [image + bytes([number]) * (14 * MIB) for number, image in enumerate(IMAGES[:1] * 4)]
    post_form(gateway, PROMPT, IMAGE)
    before = gateway.get_resident_bytes()
    parts = [make_part("image[]", image, filename="a.png") for image in large]
    answer = post_form(gateway, *parts, PROMPT, make_part("provider[only][]", "runflow-runs"), path=EDITS_PATH)
    assert read_inputs(gateway, answer) == {f"input-{index}.png": image for index, image in enumerate(large)}
    assert gateway.get_resident_bytes() - before < 120 * MIB
    wait_until_uploads_are_closed(gateway)


def test_upload_of_a_client_that_disconnects_is_closed(gateway: RunningGateway) -> None:
    form = make_form(make_part("image", bytes(4 * MIB), filename="a.png"), PROMPT)
    head = POST_IMAGE.replace(b"generations", b"edits").replace(b"application/json", FORM_CONTENT_TYPE.encode())
    for _ in range(3):
        with connect(gateway) as connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(form) + form[: 3 * MIB])
    wait_until_uploads_are_closed(gateway)
    assert gateway.read_problem_lines() == []


def test_rejected_uploads_are_closed(gateway: RunningGateway) -> None:
    large = make_file(IMAGES[0] + bytes(2 * MIB))
    for parts in (
        [PROMPT, large, make_file(b"x" * 2 * MIB, "mask")],
        [PROMPT, make_file(b"x" * 2 * MIB), large],
        [large, make_part("promt", "a")],
        [large, PROMPT, make_part("max_price", "0.0001")],
    ):
        expect_final_error(post_form(gateway, *parts), 400)
    wait_until_uploads_are_closed(gateway)
