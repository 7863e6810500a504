"""S3 by its wire protocol: credentials and endpoint from the environment, and error messages."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from gateway.assets.backend import CHUNK_BYTES
from gateway.assets.bucket_backend import RANGE_BYTES
from gateway.assets.object_keys import make_object_prefix
from gateway.assets.storage import ImageStorage, ObjectNotFound, StorageUnavailable
from tests.assets import fake_s3
from tests.assets.storage_scenarios import JOB, KEY, has_image


@pytest.fixture(autouse=True)
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", fake_s3.ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", fake_s3.SECRET_ACCESS_KEY)


def run_with_fake_s3(scenario: Callable[[fake_s3.FakeS3], Awaitable[None]]) -> None:
    async def run_scenario() -> None:
        async with fake_s3.run_fake_s3() as server:
            await scenario(server)

    asyncio.run(asyncio.wait_for(run_scenario(), 60))


def make_storage(server: fake_s3.FakeS3, bucket: str = fake_s3.BUCKET) -> ImageStorage:
    return ImageStorage(f"s3://{bucket}?endpoint={server.endpoint}")


def test_environment_sets_endpoint_region_and_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "eu-north-1")
        storage = ImageStorage(f"s3://{fake_s3.BUCKET}/deep/down")
        await storage.put(KEY, b"image", "image/png")
        assert server.objects == {f"deep/down/{KEY}": (b"image", "image/png")}
        assert "/eu-north-1/s3/" in server.requests[0].headers["authorization"]
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 1
        assert server.objects == {}

    run_with_fake_s3(scenario)


def test_image_is_uploaded_in_one_request() -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        await make_storage(server).put(KEY, bytes(12_000_000), "image/webp")
        assert [call.method for call in server.requests] == ["PUT"]
        assert server.objects[KEY] == (bytes(12_000_000), "image/webp")

    run_with_fake_s3(scenario)


async def collect_errors(storage: ImageStorage) -> list[BaseException]:
    calls = [
        *(storage.put(KEY, b"image", "image/png"), storage.get(KEY), storage.open_stream(KEY)),
        *(has_image(storage, KEY), storage.delete_prefix(make_object_prefix(JOB))),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, BaseException) for result in results), results
    return [result for result in results if isinstance(result, BaseException)]


def assert_unavailable(errors: list[BaseException], message: str) -> None:
    for error in errors:
        assert isinstance(error, StorageUnavailable)
        assert message in str(error)
        assert "s3://images" in str(error)
        assert fake_s3.ACCESS_KEY_ID not in str(error)
        assert error.__cause__ is None


@pytest.mark.parametrize(("status", "message"), [(403, "credentials"), (401, "credentials"), (400, "status 400")])
def test_error_statuses_are_explained(status: int, message: str) -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        server.forced_status = status
        assert_unavailable(await collect_errors(make_storage(server)), message)

    run_with_fake_s3(scenario)


def test_server_error_is_retried_then_reported() -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        server.forced_status = 503
        assert_unavailable(await collect_errors(make_storage(server)), "status 503")
        assert len([call for call in server.requests if call.method == "PUT"]) == 3

    run_with_fake_s3(scenario)


def test_wrong_credentials_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
        assert_unavailable(await collect_errors(make_storage(server)), "credentials")

    run_with_fake_s3(scenario)


def test_missing_bucket_is_unavailable_when_writing() -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        storage = make_storage(server, "nowhere")
        with pytest.raises(StorageUnavailable, match="s3://nowhere does not exist"):
            await storage.put(KEY, b"image", "image/png")
        with pytest.raises(ObjectNotFound):
            await storage.get(KEY)

    run_with_fake_s3(scenario)


def test_unreachable_server_is_unavailable() -> None:
    async def scenario() -> None:
        assert_unavailable(
            await collect_errors(ImageStorage("s3://images?endpoint=http://127.0.0.1:1")), "is unreachable"
        )

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_truncated_response_is_unavailable_not_short_image() -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        storage = make_storage(server)
        await storage.put(KEY, bytes(2_000_000), "image/png")
        server.truncate_after = 1_000
        with pytest.raises(StorageUnavailable):
            await storage.get(KEY)
        stream = await storage.open_stream(KEY)
        with pytest.raises(StorageUnavailable):
            assert [chunk async for chunk in stream] == []

    run_with_fake_s3(scenario)


def test_stream_requests_one_range_after_the_other() -> None:
    """The client library ends a request after 30 s. With one request, a slow reader would never get the image."""

    async def scenario(server: fake_s3.FakeS3) -> None:
        storage, image = make_storage(server), os.urandom(2 * RANGE_BYTES + 1)
        await storage.put(KEY, image, "image/png")
        server.requests.clear()
        stream, received, request_counts = await storage.open_stream(KEY), b"", []
        async for chunk in stream:
            received += chunk
            request_counts.append(len(server.requests))
        assert received == image
        assert request_counts == [2, 2, 2, 2, 3, 3, 3, 3, 4], "a range is requested when its first chunk is read"
        ends = [RANGE_BYTES, 2 * RANGE_BYTES, len(image)]
        assert [request.headers.get("range") for request in server.requests] == [
            None,
            *(f"bytes={start}-{end - 1}" for start, end in zip([0, *ends], ends, strict=False)),
        ]

    run_with_fake_s3(scenario)


def test_stream_does_not_mix_two_images() -> None:
    async def scenario(server: fake_s3.FakeS3) -> None:
        storage = make_storage(server)
        await storage.put(KEY, bytes(RANGE_BYTES + 1), "image/png")
        stream = await storage.open_stream(KEY)
        chunks = aiter(stream)
        for _ in range(RANGE_BYTES // CHUNK_BYTES):
            assert await anext(chunks)
        server.objects[KEY] = bytes(RANGE_BYTES + 2), "image/png"
        with pytest.raises(StorageUnavailable):
            await anext(chunks)

    run_with_fake_s3(scenario)
