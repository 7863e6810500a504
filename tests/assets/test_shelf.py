"""What every object store can do, held against a folder, this process's memory and S3's wire protocol."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.assets.base import CHUNK_BYTES
from gateway.assets.keys import NotAKey, key_of, prefix_of
from gateway.assets.shelf import Missing, Shelf, ShelfUnfit
from tests.assets import s3

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
NEIGHBOUR = "job_48nka7p8pc7avmya1bpy29g0nk5q"
KEY = key_of(JOB, "output-0.png")
LARGE = bytes(range(256)) * 12_001

Scenario = Callable[[Shelf], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(params=["path", "file", "memory", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a scenario against one kind of object store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)

    @asynccontextmanager
    async def address() -> AsyncIterator[str]:
        if request.param == "s3":
            async with s3.running() as server:
                yield f"s3://{s3.BUCKET}/some/where?endpoint={server.endpoint}&region=eu-central-1"
        else:
            yield {"path": f"{tmp_path}/a/b", "file": f"file://{tmp_path}/a b".replace(" ", "%20")}.get(
                request.param, "memory://"
            )

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with address() as url:
                shelf = Shelf(url)
                try:
                    await scenario(shelf)
                finally:
                    await shelf.close()

        asyncio.run(asyncio.wait_for(whole(), 20))

    return run


async def put(shelf: Shelf, key: str, data: bytes = b"picture") -> None:
    await shelf.put(key, data, "image/png")


async def read(shelf: Shelf, key: str) -> tuple[int, list[bytes]]:
    stream = await shelf.stream(key)
    return stream.size, [chunk async for chunk in stream]


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "one byte", "3 MB"])
def test_what_is_put_is_got(run: Run, data: bytes) -> None:
    async def scenario(shelf: Shelf) -> None:
        assert not await shelf.exists(KEY)
        await put(shelf, KEY, data)
        assert await shelf.exists(KEY)
        got = await shelf.get(KEY)
        assert type(got) is bytes
        assert got == data
        size, chunks = await read(shelf, KEY)
        assert size == len(data)
        assert b"".join(chunks) == data
        assert all(type(chunk) is bytes for chunk in chunks)
        assert max(map(len, chunks), default=0) <= CHUNK_BYTES

    run(scenario)


def test_what_is_not_there_is_missing(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf, key_of(JOB, "output-1.png"))
        for key in (KEY, key_of(NEIGHBOUR, "output-0.png"), key_of("job_00" + "a" * 26, "output-0.png")):
            assert not await shelf.exists(key)
            with pytest.raises(Missing):
                await shelf.get(key)
            with pytest.raises(Missing):
                await shelf.stream(key)

    run(scenario)


def test_a_job_is_forgotten_whole_and_no_other(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        names = [f"output-{number}.png" for number in range(5)]
        for name in names:
            await put(shelf, key_of(JOB, name))
        await put(shelf, key_of(NEIGHBOUR, names[0]))
        assert await shelf.delete_prefix(prefix_of(JOB)) == 5
        assert [await shelf.exists(key_of(JOB, name)) for name in names] == [False] * 5
        assert await shelf.exists(key_of(NEIGHBOUR, names[0]))
        assert await shelf.delete_prefix(prefix_of(JOB)) == 0
        await put(shelf, KEY)
        assert await shelf.get(KEY) == b"picture"

    run(scenario)


def test_readers_see_one_picture_or_the_other_and_never_half_of_one(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        versions = [bytes([letter]) * (400_000 + 90_000 * letter) for letter in range(4)]
        await put(shelf, KEY, versions[0])
        seen = []

        async def write() -> None:
            for turn in range(16):
                await put(shelf, KEY, versions[turn % 4])

        async def look() -> None:
            for _ in range(12):
                seen.append(await shelf.get(KEY))
                size, chunks = await read(shelf, KEY)
                seen.append(b"".join(chunks))
                assert len(seen[-1]) == size

        await asyncio.gather(write(), write(), look(), look(), look())
        assert set(seen) <= set(versions)

    run(scenario)


def test_many_at_once(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        keys = [key_of(f"job_{number % 64:02}{number:026}", "output-0.png") for number in range(60)]
        await asyncio.gather(*(put(shelf, key, key.encode()) for key in keys))
        assert await asyncio.gather(*(shelf.get(key) for key in keys)) == [key.encode() for key in keys]
        gone = await asyncio.gather(*(shelf.delete_prefix(key.rpartition("/")[0] + "/") for key in keys))
        assert gone == [1] * 60

    run(scenario)


def test_putting_and_forgetting_the_same_job_at_once_ends_well(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        for turn in range(5):
            results = await asyncio.gather(
                *(put(shelf, key_of(JOB, f"output-{number}.png")) for number in range(6)),
                *(shelf.delete_prefix(prefix_of(JOB)) for _ in range(3)),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    # A folder that vanished while it was written to: worth another try.
                    assert type(result).__name__ == "ShelfUnavailable", (turn, result)
        await put(shelf, KEY)
        assert await shelf.get(KEY) == b"picture"

    run(scenario)


def test_whoever_is_called_off_breaks_nothing(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        await put(shelf, KEY, LARGE)
        for pause in (0.0, 0.0005, 0.002, 0.005):
            for work in (put(shelf, KEY, LARGE), shelf.get(KEY), read(shelf, KEY)):
                task = asyncio.ensure_future(work)
                await asyncio.sleep(pause)
                task.cancel()
                await asyncio.wait([task])
        stream = await shelf.stream(KEY)
        async for _ in stream:
            break
        assert await shelf.get(KEY) == LARGE

    run(scenario)


@pytest.mark.parametrize("key", ["", "../x", f"48/{JOB}/../../x.png", f"47/{JOB}/x.png", f"48/{JOB}/.x.png.0"])
def test_only_keys_of_ours_go_in(run: Run, key: str) -> None:
    async def scenario(shelf: Shelf) -> None:
        for work in (put(shelf, key), shelf.get(key), shelf.stream(key), shelf.exists(key), shelf.delete_prefix(key)):
            with pytest.raises(NotAKey):
                await work

    run(scenario)


def test_a_check_leaves_nothing(run: Run) -> None:
    async def scenario(shelf: Shelf) -> None:
        await asyncio.gather(*(shelf.check() for _ in range(4)))

    run(scenario)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "ftp:// is no object store"),
        ("http://host/x", "http:// is no object store"),
        ("file://host/x", "three slashes"),
        ("file:///x?y=1", "three slashes"),
        ("s3://bucket?secret=canary", "unknown option 'secret'"),
        ("gs://bucket?endpoint=http://x", "unknown option 'endpoint'"),
        ("az://container/x", "az://container/x cannot be used: .*[Aa]ccount"),
        ("/proc/nowhere/x", "cannot be a folder"),
        ("/dev/null", "cannot be a folder"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ShelfUnfit, match=words) as refused:
        Shelf(url)
    assert "canary" not in str(refused.value)


def test_every_kind_of_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent before something is asked for."""
    urls = ["s3://bucket", "s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix?account=somebody"]
    assert [Shelf(url).local for url in urls] == [False] * 4
    assert Shelf("memory://").local
