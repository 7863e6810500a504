"""Large images as base64: streamed within little memory, complete or visibly aborted, and retrievable afterwards."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import openai
import pytest

from tests.api.error_responses import IMAGES_PATH, expect_final_error, parse_error
from tests.api.raw_http import RawResponse
from tests.api.stored_jobs import LARGE_IMAGES, FinishedJob, decode_contents, expect_slow_clients_hold_little_memory
from tests.harness.gateway_runner import API_KEY, RunningGateway, run_sandboxed_gateway
from tests.harness.raw_sockets import read_until_closed_or_reset
from tests.harness.sample_images import decode_image
from tests.harness.wait import wait_for_value, wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway of its own, since other tests expect that the shared one logs no problem."""
    folder: Path = tmp_path_factory.mktemp("large_images")
    with run_sandboxed_gateway(folder) as running:
        running.sandbox.set_latency(0.0)
        yield running


def create_keyed_job(gateway: RunningGateway, n: int = 2) -> FinishedJob:
    """Creates a job that every repetition of its request gets."""
    return FinishedJob(gateway, n, **{"idempotency-key": str(uuid4())})


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=API_KEY, http_client=http, max_retries=0) as client:
        yield client


def list_open_image_files(gateway: RunningGateway) -> list[str]:
    folder = str(gateway.folder / "data" / "images")
    links = []
    for descriptor in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except FileNotFoundError:
            # Closed at the same moment.
            continue
    return [link for link in links if link.startswith(folder)]


def expect_all_files_closed(gateway: RunningGateway) -> None:
    wait_for_value(lambda: list_open_image_files(gateway), lambda files: not files, "all files are closed")


def test_openai_sdk_reads_large_images(openai_client: openai.OpenAI) -> None:
    answer = openai_client.images.generate(model="gpt-image-2", prompt="a lighthouse", n=3, size="3840x2160")  # type: ignore[call-overload]
    assert [decode_image(image.b64_json).size for image in answer.data] == [(3840, 2160)] * 3
    assert answer.usage.output_tokens >= 0
    assert answer.output_format == "png"


@pytest.mark.parametrize("remainder", [0, 1, 2])
def test_streamed_response_contains_every_byte(gateway: RunningGateway, remainder: int) -> None:
    job = create_keyed_job(gateway)
    contents = job.replace_images(3 * 500_000 + remainder, 1 + remainder)
    answer = job.repeat_request()
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-igw-job-id"] == job.id
    assert answer.headers["cache-control"] == "no-store"
    assert "transfer-encoding" not in answer.headers
    assert decode_contents(answer.json()) == contents
    assert {"created", "data", "size", "output_format", "usage"} <= set(answer.json())


def test_small_images_are_sent_in_one_piece(gateway: RunningGateway) -> None:
    answer = gateway.http.post(IMAGES_PATH, json={"prompt": "a lighthouse"})
    assert int(answer.headers["content-length"]) == len(answer.content) < 87_000
    assert decode_image(answer.json()["data"][0]["b64_json"]).size == (1024, 1024)


def test_dalle_client_gets_urls_and_base64_of_large_images(gateway: RunningGateway) -> None:
    fields = {"prompt": "a lighthouse", "model": "dall-e-3", "quality": "hd"} | LARGE_IMAGES
    image = gateway.http.post(IMAGES_PATH, json=fields).json()["data"][0]
    assert base64.b64decode(image["b64_json"]) == httpx.get(image["url"], trust_env=False).content


def test_slow_clients_hold_little_memory(gateway: RunningGateway) -> None:
    job = create_keyed_job(gateway)
    contents = job.replace_images(8 * MIB, 8 * MIB)
    expect_slow_clients_hold_little_memory(gateway, job, contents)
    expect_all_files_closed(gateway)


def test_request_after_a_disconnect_within_the_response_gets_the_job(gateway: RunningGateway) -> None:
    """Without a key: the client that got a part of the response counts as unanswered."""
    job = FinishedJob(gateway, 2, **{"x-stainless-retry-count": "0"})
    contents = job.replace_images(8 * MIB, 8 * MIB)
    with job.send_request(**{"x-stainless-retry-count": "1"}) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    expect_all_files_closed(gateway)
    answer = job.repeat_request()
    assert (answer.headers["x-igw-job-id"], answer.headers["idempotent-replayed"]) == (job.id, "true")
    assert decode_contents(answer.json()) == contents


def test_missing_image_is_an_error_before_the_first_byte(gateway: RunningGateway) -> None:
    job = create_keyed_job(gateway)
    job.files[1].unlink()
    expect_final_error(job.repeat_request(), 410, "image_deleted")
    expect_all_files_closed(gateway)


def test_unreadable_image_is_an_error_before_the_first_byte(gateway: RunningGateway) -> None:
    job = create_keyed_job(gateway)
    content = job.files[1].read_bytes()
    job.files[1].unlink()
    job.files[1].mkdir()
    answer = job.repeat_request()
    assert answer.status_code == 503
    assert parse_error(answer)["code"] == "images_unavailable"
    assert answer.headers["x-igw-job-id"] == job.id
    job.files[1].rmdir()
    job.files[1].write_bytes(content)
    assert decode_contents(job.repeat_request().json())[1] == content


def test_storage_failure_within_the_response_aborts_the_connection(gateway: RunningGateway) -> None:
    job = create_keyed_job(gateway)
    contents = job.replace_images(2 * MIB, 8 * MIB)
    with job.send_request() as connection:
        start = connection.recv(4096)
        assert start.startswith(b"HTTP/1.1 200")
        os.truncate(job.files[1], MIB)
        received = start + read_until_closed_or_reset(connection)
    answer = RawResponse(received)
    assert len(answer.body) < int(answer.headers["content-length"])
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(answer.body)
    wait_until(
        lambda: [line for line in gateway.read_problem_lines() if "ended after" in str(line)], "the failure is logged"
    )
    expect_all_files_closed(gateway)
    job.files[1].write_bytes(contents[1])
    assert decode_contents(job.repeat_request().json()) == contents
