"""`GET /v1/jobs/{id}/images/{index}` on both stores: bytes, ranges, validators, thumbnails, and deleted images."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI
from tests.flow.job_checks import make_unknown_id
from tests.flow.order_flow import FlowGateway, JobJson, OrderFlow


def request_image(
    gateway: FlowGateway, job_id: str, index: int | str = 0, key: str = API_KEY, method: str = "GET", **options: Any
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
    return gateway.http.request(method, f"/v1/jobs/{job_id}/images/{index}", headers=headers, params=options)


def find_files(gateway: FlowGateway, job_id: str) -> list[Path]:
    return sorted(path for path in gateway.folder.parent.rglob(f"{job_id}.*") if path.is_file())


@pytest.fixture
def job(flow: OrderFlow) -> JobJson:
    return flow.order_images(RUNAPI, n=2, size="1536x1024", output_format="jpeg")


def test_image_has_its_bytes_type_and_validator(flow: OrderFlow, job: JobJson) -> None:
    for entry in job["images"]:
        answer = request_image(flow.gateway, job["id"], entry["index"])
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert hashlib.sha256(answer.content).hexdigest() == entry["sha256"]
        assert answer.headers["x-igw-job-id"] == job["id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-disposition" not in answer.headers
        head = request_image(flow.gateway, job["id"], entry["index"], method="HEAD")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(entry["bytes"]))
        for tag in (answer.headers["etag"], f'"x", {answer.headers["etag"]}', "*"):
            cached = request_image(flow.gateway, job["id"], entry["index"], headers={"if-none-match": tag})
            assert (cached.status_code, cached.content) == (304, b"")
            assert cached.headers["etag"] == answer.headers["etag"]
    assert flow.gateway.http.get(job["images"][0]["url"], headers={"range": "bytes=0-3"}).status_code == 206


def test_download_names_a_file(flow: OrderFlow, job: JobJson) -> None:
    answer = request_image(flow.gateway, job["id"], 1, download=1)
    assert answer.headers["content-disposition"] == f'attachment; filename="{job["id"]}-1.jpeg"'
    assert "content-disposition" not in request_image(flow.gateway, job["id"], 1, download=0).headers


@pytest.mark.parametrize(
    ("range_header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, None),
        ("bytes=-50", -50, None),
        ("bytes=5-99999999", 5, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_range_has_its_bytes(flow: OrderFlow, job: JobJson, range_header: str, start: int, end: int | None) -> None:
    whole = request_image(flow.gateway, job["id"]).content
    answer = request_image(flow.gateway, job["id"], headers={"range": range_header})
    expected = whole[start:end]
    first = start if start >= 0 else len(whole) + start
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole)}"


@pytest.mark.parametrize("range_header", ["bytes=a-b", "bytes=-", "bytes=9-3", "lines=0-1", "bytes=0-1,5-9", "bytes"])
def test_unsupported_range_gets_the_whole_image(flow: OrderFlow, job: JobJson, range_header: str) -> None:
    answer = request_image(flow.gateway, job["id"], headers={"range": range_header})
    assert (answer.status_code, len(answer.content)) == (200, job["images"][0]["bytes"])


def test_range_of_another_version_gets_the_whole_image(flow: OrderFlow, job: JobJson) -> None:
    etag = request_image(flow.gateway, job["id"]).headers["etag"]
    for tag, status in ((etag, 206), ('"other"', 200)):
        headers = {"range": "bytes=0-9", "if-range": tag}
        assert request_image(flow.gateway, job["id"], headers=headers).status_code == status


@pytest.mark.parametrize("range_header", ["bytes=99999999-", "bytes=-0"])
def test_range_outside_the_image_is_refused(flow: OrderFlow, job: JobJson, range_header: str) -> None:
    answer = request_image(flow.gateway, job["id"], headers={"range": range_header})
    assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{job['images'][0]['bytes']}"


def test_thumbnail_is_made_once_and_stored(flow: OrderFlow, job: JobJson) -> None:
    files = find_files(flow.gateway, job["id"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: request_image(flow.gateway, job["id"], w=320), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    with Image.open(io.BytesIO(answers[0].content)) as image:
        image.load()
        assert (image.format, image.size) == ("WEBP", (320, 213))
    assert answers[0].headers["content-type"] == "image/webp"
    assert answers[0].headers["etag"] != request_image(flow.gateway, job["id"]).headers["etag"]
    [thumbnail] = set(find_files(flow.gateway, job["id"])) - set(files)
    written_at = thumbnail.stat().st_mtime_ns
    assert request_image(flow.gateway, job["id"], w=320).content == answers[0].content
    assert thumbnail.stat().st_mtime_ns == written_at
    name = request_image(flow.gateway, job["id"], w=320, download=1).headers["content-disposition"]
    assert name == f'attachment; filename="{job["id"]}-0.webp"'


@pytest.mark.parametrize("width", ["0", "-1", "321", "100000", "x"])
def test_other_widths_are_refused(flow: OrderFlow, job: JobJson, width: str) -> None:
    answer = request_image(flow.gateway, job["id"], w=width)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "w")


def test_deleted_image_has_expired(flow: OrderFlow, job: JobJson) -> None:
    for file in find_files(flow.gateway, job["id"]):
        file.unlink()
    for params in ({}, {"w": 320}):
        answer = request_image(flow.gateway, job["id"], **params)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "image_deleted")


def test_unknown_index_and_foreign_job_are_not_found(flow: OrderFlow, job: JobJson) -> None:
    for index in ("2", "-1", "00", "x", "²"):
        answer = request_image(flow.gateway, job["id"], index)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "image_not_found")
    foreign = request_image(flow.gateway, job["id"], key=OTHER_TEAM_KEY)
    unknown = request_image(flow.gateway, make_unknown_id(job["id"]))
    assert (foreign.status_code, foreign.json()["error"]) == (404, unknown.json()["error"])


def test_job_has_a_validator_that_changes_with_it(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    url, headers = f"/v1/jobs/{job_id}", {"authorization": f"Bearer {API_KEY}"}
    flow.sandbox.release_orders(vendor="runapi")
    completed = flow.gateway.http.get(url, params={"wait": 30}, headers=headers)
    etag = completed.headers["etag"]
    cached = flow.gateway.http.get(url, headers={**headers, "if-none-match": etag})
    assert (cached.status_code, cached.content, cached.headers["etag"]) == (304, b"", etag)
    assert flow.gateway.http.get(url, headers={**headers, "if-none-match": 'W/"0-0"'}).status_code == 200
