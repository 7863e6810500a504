"""The behaviour of all storage backends: a folder, memory, and S3 by its wire protocol."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from gateway.assets.backend import CHUNK_BYTES
from gateway.assets.object_keys import InvalidKey, make_object_key, make_object_prefix
from gateway.assets.storage import ImageStorage, ObjectNotFound, StorageMisconfigured, StorageUnavailable
from tests.assets import fake_s3
from tests.assets.storage_scenarios import JOB, KEY, OTHER_JOB, has_image

LARGE_DATA = bytes(range(256)) * 12_001

Scenario = Callable[[ImageStorage], Awaitable[None]]
ScenarioRunner = Callable[[Scenario], None]


@pytest.fixture(params=["path", "file", "memory", "s3"])
def run_scenario(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScenarioRunner:
    """Runs a scenario against one kind of storage backend."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", fake_s3.ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", fake_s3.SECRET_ACCESS_KEY)

    @asynccontextmanager
    async def open_storage_url() -> AsyncIterator[str]:
        if request.param == "s3":
            async with fake_s3.run_fake_s3() as server:
                yield f"s3://{fake_s3.BUCKET}/some/where?endpoint={server.endpoint}&region=eu-central-1"
        else:
            yield {"path": f"{tmp_path}/a/b", "file": f"file://{tmp_path}/a b".replace(" ", "%20")}.get(
                request.param, "memory://"
            )

    def run_in_loop(scenario: Scenario) -> None:
        async def run_with_storage() -> None:
            async with open_storage_url() as url:
                storage = ImageStorage(url)
                try:
                    await scenario(storage)
                finally:
                    await storage.close()

        asyncio.run(asyncio.wait_for(run_with_storage(), 60))

    return run_in_loop


async def put_image(storage: ImageStorage, key: str, data: bytes = b"image") -> None:
    await storage.put(key, data, "image/png")


async def read_stream(storage: ImageStorage, key: str) -> tuple[int, list[bytes]]:
    stream = await storage.open_stream(key)
    return stream.size, [chunk async for chunk in stream]


@pytest.mark.parametrize("data", [b"", b"x", LARGE_DATA], ids=["empty", "one byte", "3 MB"])
def test_stored_bytes_are_read_back(run_scenario: ScenarioRunner, data: bytes) -> None:
    async def scenario(storage: ImageStorage) -> None:
        assert not await has_image(storage, KEY)
        await put_image(storage, KEY, data)
        assert await has_image(storage, KEY)
        stored = await storage.get(KEY)
        assert type(stored) is bytes
        assert stored == data
        size, chunks = await read_stream(storage, KEY)
        assert size == len(data)
        assert b"".join(chunks) == data
        assert all(type(chunk) is bytes for chunk in chunks)
        assert max(map(len, chunks), default=0) <= CHUNK_BYTES

    run_scenario(scenario)


def test_map_of_a_file_is_stored_like_its_bytes(run_scenario: ScenarioRunner, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(LARGE_DATA)

    async def scenario(storage: ImageStorage) -> None:
        with path.open("rb") as file:
            data = mmap(file.fileno(), 0, access=ACCESS_READ)
        for key in (KEY, make_object_key(OTHER_JOB, "input-0.png")):
            await storage.put(key, data, "image/png")
            assert await storage.get(key) == LARGE_DATA

    run_scenario(scenario)


def test_absent_object_raises_object_not_found(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, make_object_key(JOB, "output-1.png"))
        for key in (
            KEY,
            make_object_key(OTHER_JOB, "output-0.png"),
            make_object_key("job_00" + "a" * 26, "output-0.png"),
        ):
            assert not await has_image(storage, key)
            with pytest.raises(ObjectNotFound):
                await storage.get(key)
            with pytest.raises(ObjectNotFound):
                await storage.open_stream(key)

    run_scenario(scenario)


def test_delete_prefix_deletes_one_job_completely(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        names = [f"output-{index}.png" for index in range(5)]
        for name in names:
            await put_image(storage, make_object_key(JOB, name))
        await put_image(storage, make_object_key(OTHER_JOB, names[0]))
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 5
        assert [await has_image(storage, make_object_key(JOB, name)) for name in names] == [False] * 5
        assert await has_image(storage, make_object_key(OTHER_JOB, names[0]))
        assert await storage.delete_prefix(make_object_prefix(JOB)) == 0
        await put_image(storage, KEY)
        assert await storage.get(KEY) == b"image"

    run_scenario(scenario)


def test_readers_never_see_partial_overwrite(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        versions = [bytes([letter]) * (400_000 + 90_000 * letter) for letter in range(4)]
        await put_image(storage, KEY, versions[0])
        seen = []

        async def write_repeatedly() -> None:
            for number in range(16):
                await put_image(storage, KEY, versions[number % 4])

        async def read_repeatedly() -> None:
            for _ in range(12):
                seen.append(await storage.get(KEY))
                try:
                    size, chunks = await read_stream(storage, KEY)
                except StorageUnavailable:
                    assert storage.stream_buffer_bytes, "only a bucket, which is read in ranges, forgets a former image"
                    continue
                seen.append(b"".join(chunks))
                assert len(seen[-1]) == size

        await asyncio.gather(
            write_repeatedly(), write_repeatedly(), read_repeatedly(), read_repeatedly(), read_repeatedly()
        )
        assert set(seen) <= set(versions)

    run_scenario(scenario)


def test_many_concurrent_operations_work(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        keys = [make_object_key(f"job_{number % 64:02}{number:026}", "output-0.png") for number in range(60)]
        await asyncio.gather(*(put_image(storage, key, key.encode()) for key in keys))
        assert await asyncio.gather(*(storage.get(key) for key in keys)) == [key.encode() for key in keys]
        deleted_counts = await asyncio.gather(*(storage.delete_prefix(key.rpartition("/")[0] + "/") for key in keys))
        assert deleted_counts == [1] * 60

    run_scenario(scenario)


def test_concurrent_put_and_delete_of_same_job_are_safe(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        for turn in range(5):
            results = await asyncio.gather(
                *(put_image(storage, make_object_key(JOB, f"output-{number}.png")) for number in range(6)),
                *(storage.delete_prefix(make_object_prefix(JOB)) for _ in range(3)),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    # The folder was deleted during the write: a retry succeeds.
                    assert type(result).__name__ == "StorageUnavailable", (turn, result)
        await put_image(storage, KEY)
        assert await storage.get(KEY) == b"image"

    run_scenario(scenario)


def test_cancelled_operations_leave_storage_usable(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await put_image(storage, KEY, LARGE_DATA)
        for pause in (0.0, 0.0005, 0.002, 0.005):
            for operation in (put_image(storage, KEY, LARGE_DATA), storage.get(KEY), read_stream(storage, KEY)):
                task = asyncio.ensure_future(operation)
                await asyncio.sleep(pause)
                task.cancel()
                await asyncio.wait([task])
        stream = await storage.open_stream(KEY)
        async for _ in stream:
            break
        assert await storage.get(KEY) == LARGE_DATA

    run_scenario(scenario)


@pytest.mark.parametrize("key", ["", "../x", f"48/{JOB}/../../x.png", f"47/{JOB}/x.png", f"48/{JOB}/.x.png.0"])
def test_invalid_keys_are_rejected(run_scenario: ScenarioRunner, key: str) -> None:
    async def scenario(storage: ImageStorage) -> None:
        for operation in (
            put_image(storage, key),
            storage.get(key),
            storage.open_stream(key),
            has_image(storage, key),
            storage.delete_prefix(key),
        ):
            with pytest.raises(InvalidKey):
                await operation

    run_scenario(scenario)


def test_concurrent_self_tests_pass(run_scenario: ScenarioRunner) -> None:
    async def scenario(storage: ImageStorage) -> None:
        await asyncio.gather(*(storage.self_test() for _ in range(4)))

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "ftp:// is not a supported storage"),
        ("http://host/x", "http:// is not a supported storage"),
        ("file://host/x", "three slashes"),
        ("file:///x?y=1", "three slashes"),
        ("s3://bucket?secret=canary", "unknown option 'secret'"),
        ("gs://bucket?endpoint=http://x", "unknown option 'endpoint'"),
        ("az://container/x", "az://container/x cannot be used: .*[Aa]ccount"),
        ("/proc/nowhere/x", "cannot be used to store images"),
        ("/dev/null", "cannot be used to store images"),
    ],
)
def test_unusable_url_error_says_why(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StorageMisconfigured, match=message) as error_info:
        ImageStorage(url)
    assert "canary" not in str(error_info.value)


def test_every_url_scheme_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent before the first operation."""
    urls = ["s3://bucket", "s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix?account=somebody"]
    for url in (*urls, "memory://"):
        ImageStorage(url)
