"""Large images as base64 from a bucket: streamed within little memory, and visibly aborted when the bucket fails."""

import json
import os
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from gateway.assets.bucket_backend import RANGE_BYTES
from tests.api.raw_http import RawResponse
from tests.api.stored_jobs import FinishedJob, decode_contents, expect_slow_clients_hold_little_memory
from tests.assets import fake_s3
from tests.assets.fake_s3 import FakeS3
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway
from tests.harness.raw_sockets import read_until_closed_or_reset
from tests.harness.wait import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def bucket() -> Iterator[FakeS3]:
    with fake_s3.run_fake_s3_in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, bucket: FakeS3) -> Iterator[RunningGateway]:
    environ = {
        "IGW_ASSETS": f"s3://{fake_s3.BUCKET}?endpoint={bucket.endpoint}",
        "AWS_ACCESS_KEY_ID": fake_s3.ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": fake_s3.SECRET_ACCESS_KEY,
    }
    with run_sandboxed_gateway(tmp_path_factory.mktemp("bucket"), environ=environ) as running:
        running.sandbox.set_latency(0.0)
        yield running


def create_job(gateway: RunningGateway) -> FinishedJob:
    return FinishedJob(gateway, 2, **{"idempotency-key": str(uuid4())})


def replace_images(bucket: FakeS3, job: FinishedJob, *sizes: int) -> list[bytes]:
    contents = [os.urandom(size) for size in sizes]
    keys = [httpx.URL(url).path.removeprefix("/files/") for url in job.image_urls]
    for key, content in zip(keys, contents, strict=True):
        assert key in bucket.objects
        bucket.objects[key] = content, "image/png"
    return contents


def test_streamed_response_contains_every_byte(gateway: RunningGateway, bucket: FakeS3) -> None:
    job = create_job(gateway)
    contents = replace_images(bucket, job, 3 * RANGE_BYTES + 1, RANGE_BYTES)
    answer = job.repeat_request()
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert decode_contents(answer.json()) == contents
    assert [httpx.get(url, trust_env=False).content for url in job.image_urls] == contents


def test_slow_clients_hold_little_memory(gateway: RunningGateway, bucket: FakeS3) -> None:
    job = create_job(gateway)
    contents = replace_images(bucket, job, 8 * MIB, 8 * MIB)
    expect_slow_clients_hold_little_memory(gateway, job, contents)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("failure", [{"truncate_after": 1_000}, {"forced_status": 500}, {"forced_status": 403}])
def test_bucket_failure_within_the_response_aborts_the_connection(
    gateway: RunningGateway, bucket: FakeS3, failure: dict[str, int]
) -> None:
    job = create_job(gateway)
    contents = replace_images(bucket, job, 2 * MIB, 8 * MIB)
    with job.send_request() as connection:
        start = connection.recv(4096)
        assert start.startswith(b"HTTP/1.1 200")
        for name, value in failure.items():
            setattr(bucket, name, value)
        received = start + read_until_closed_or_reset(connection)
    bucket.truncate_after = bucket.forced_status = None
    answer = RawResponse(received)
    assert len(answer.body) < int(answer.headers["content-length"])
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(answer.body)
    wait_until(lambda: has_reported_failure(gateway, job), "the failure is logged")
    assert decode_contents(job.repeat_request().json()) == contents
    assert httpx.get(job.image_urls[1], trust_env=False).content == contents[1]


def has_reported_failure(gateway: RunningGateway, job: FinishedJob) -> bool:
    return any("StorageUnavailable" in str(line) or "s3://images" in str(line) for line in gateway.read_problem_lines())


def test_bucket_failure_before_the_response_is_an_error(gateway: RunningGateway, bucket: FakeS3) -> None:
    job = create_job(gateway)
    contents = replace_images(bucket, job, 2 * MIB, MIB)
    bucket.forced_status = 500
    answer = job.repeat_request()
    bucket.forced_status = None
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "images_unavailable"
    assert answer.headers["x-igw-job-id"] == job.id
    assert decode_contents(job.repeat_request().json()) == contents
