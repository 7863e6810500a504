"""S3 by its wire protocol: credentials and endpoint from the environment, and what is said when it is in trouble."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.assets.keys import key_of, prefix_of
from gateway.assets.shelf import Missing, Shelf, ShelfUnavailable
from tests.assets import s3

JOB = "job_48nka7p8pc7avmya1bpy29g0nk5p"
KEY = key_of(JOB, "output-0.png")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)


def against(scenario: Callable[[s3.S3], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with s3.running() as server:
            await scenario(server)

    asyncio.run(asyncio.wait_for(whole(), 20))


def shelf_at(server: s3.S3, where: str = s3.BUCKET) -> Shelf:
    return Shelf(f"s3://{where}?endpoint={server.endpoint}")


def test_the_environment_says_where_and_who(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: s3.S3) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_REGION", "eu-north-1")
        shelf = Shelf(f"s3://{s3.BUCKET}/deep/down")
        await shelf.put(KEY, b"picture", "image/png")
        assert server.objects == {f"deep/down/{KEY}": (b"picture", "image/png")}
        assert "/eu-north-1/s3/" in server.calls[0].headers["authorization"]
        assert await shelf.delete_prefix(prefix_of(JOB)) == 1
        assert server.objects == {}

    against(scenario)


def test_a_picture_is_one_call_whatever_its_size() -> None:
    async def scenario(server: s3.S3) -> None:
        await shelf_at(server).put(KEY, bytes(12_000_000), "image/webp")
        assert [call.method for call in server.calls] == ["PUT"]
        assert server.objects[KEY] == (bytes(12_000_000), "image/webp")

    against(scenario)


async def every_call(shelf: Shelf) -> list[BaseException]:
    calls = [
        *(shelf.put(KEY, b"picture", "image/png"), shelf.get(KEY), shelf.stream(KEY)),
        *(shelf.exists(KEY), shelf.delete_prefix(prefix_of(JOB))),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, BaseException) for result in results), results
    return [result for result in results if isinstance(result, BaseException)]


def unavailable(said: list[BaseException], words: str) -> None:
    for error in said:
        assert isinstance(error, ShelfUnavailable)
        assert words in str(error)
        assert "s3://pictures" in str(error)
        assert s3.KEY_ID not in str(error)
        assert error.__cause__ is None


@pytest.mark.parametrize(("status", "words"), [(403, "credentials"), (401, "credentials"), (400, "with 400")])
def test_refusals_are_told_in_words(status: int, words: str) -> None:
    async def scenario(server: s3.S3) -> None:
        server.status = status
        unavailable(await every_call(shelf_at(server)), words)

    against(scenario)


def test_a_server_in_trouble_is_asked_again_and_then_told_of() -> None:
    async def scenario(server: s3.S3) -> None:
        server.status = 503
        unavailable(await every_call(shelf_at(server)), "with 503")
        assert len([call for call in server.calls if call.method == "PUT"]) == 3

    against(scenario)


def test_wrong_credentials_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(server: s3.S3) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
        unavailable(await every_call(shelf_at(server)), "credentials")

    against(scenario)


def test_a_bucket_that_is_not_there_is_not_a_missing_picture_when_writing() -> None:
    async def scenario(server: s3.S3) -> None:
        shelf = shelf_at(server, "nowhere")
        with pytest.raises(ShelfUnavailable, match="s3://nowhere does not exist"):
            await shelf.put(KEY, b"picture", "image/png")
        with pytest.raises(Missing):
            await shelf.get(KEY)

    against(scenario)


def test_nobody_there() -> None:
    async def scenario() -> None:
        unavailable(await every_call(Shelf("s3://pictures?endpoint=http://127.0.0.1:1")), "does not answer")

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_answer_that_breaks_off_is_not_a_shorter_picture() -> None:
    async def scenario(server: s3.S3) -> None:
        shelf = shelf_at(server)
        await shelf.put(KEY, bytes(2_000_000), "image/png")
        server.cut_after = 700_000
        with pytest.raises(ShelfUnavailable):
            await shelf.get(KEY)
        stream = await shelf.stream(KEY)
        with pytest.raises(ShelfUnavailable):
            assert [chunk async for chunk in stream] == []

    against(scenario)
