"""A catalogue follows its files: whole or not at all, loudly where it cannot, and gently with what disappears."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from gateway.config.files import files_in
from gateway.config.resolving import secrets_in
from gateway.config.watching import UNEXPECTED, ConfigError, Keeper, Reloaded
from providers import ADAPTERS
from tests.unit.config.base import FILES, KEYS, write
from tests.unit.config.following import SHAPE, cheaper, keeper, planned, until, watched

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_good_change_is_taken_whole_and_told(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    async with watched(write(tmp_path), told) as kept:
        before = kept.current
        cheaper(tmp_path, "0.05")
        await until(lambda: told)
        assert kept.current is not before
        assert kept.current.hash != before.hash
        assert planned(kept.current).ranked[0].quote.total == 50_000
        assert planned(before).ranked[0].quote.total == 60_000, "whoever took the old one keeps it as it was"
        assert (told[0].taken, told[0].before, kept.last) == (True, before.hash, told[0])


async def test_a_bad_change_changes_nothing_and_every_problem_of_it_is_told_once(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    async with watched(write(tmp_path), told) as kept:
        before = kept.current
        (tmp_path / "models.yaml").write_text("models: {picture-2: {most_images: 0}}\n")
        (tmp_path / "teams.yaml").write_text("teams: {design: {policies: [none]}}\n")
        await until(lambda: told)
        await asyncio.sleep(0.3)
        assert kept.current is before
        assert not told[0].taken
        assert [str(problem).split(": ")[1] for problem in kept.last.result.problems] == [
            "models.picture-2.most_images",
            "teams.design.policies[0]",
        ]
        assert len(told) == 1
        write(tmp_path)
        await until(lambda: len(told) == 2)
        assert told[1].taken


async def test_a_change_that_keeps_size_and_time_is_seen_all_the_same(tmp_path: Path) -> None:
    """As copies that preserve times make it, and clocks that are coarser than two quick writes."""
    async with watched(write(tmp_path)) as kept:
        path, before = tmp_path / SHAPE, kept.current.hash
        stat = path.stat()
        cheaper(tmp_path, "0.07")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        await until(lambda: kept.current.hash != before)
        assert planned(kept.current).ranked[0].quote.total == 70_000


async def test_files_that_are_swapped_by_link_are_seen(tmp_path: Path) -> None:
    """As Kubernetes swaps a mounted ConfigMap."""
    write(tmp_path / "one")
    write(tmp_path / "two")
    cheaper(tmp_path / "two", "0.05")
    link = tmp_path / "config"
    link.symlink_to("one")
    async with watched(link) as kept:
        before = kept.current.hash
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(link)
        await until(lambda: kept.current.hash != before)
        assert kept.current.hash == files_in(tmp_path / "two").hash


def test_the_hash_changes_exactly_when_a_byte_does(tmp_path: Path) -> None:
    kept = keeper(write(tmp_path))
    first = kept.current.hash
    assert len(first) == 12
    assert kept.reload().taken
    assert kept.current.hash == first
    (tmp_path / "notes.txt").write_text("no part of it")
    kept.reload()
    assert kept.current.hash == first
    seen = {first}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text + "#")
        kept.reload()
        assert kept.current.hash not in seen
        seen.add(kept.current.hash)
        (tmp_path / name).write_text(text)
        kept.reload()
        assert kept.current.hash == first


def test_the_same_bytes_in_another_folder_have_the_same_hash(tmp_path: Path) -> None:
    assert files_in(write(tmp_path / "a")).hash == files_in(write(tmp_path / "b")).hash


async def test_files_written_in_steps_never_make_a_mixed_catalogue(tmp_path: Path) -> None:
    """Each file is right at every step, and so is every mixture: only both changes together are what was meant."""
    async with watched(write(tmp_path)) as kept:
        first, seen = kept.current.hash, set()
        for name in (SHAPE, "offers/by-pixel.yaml"):
            with (tmp_path / name).open("w") as file:
                half = len(FILES[name]) // 2
                file.write(FILES[name][:half])
                file.flush()
                for _ in range(6):
                    await asyncio.sleep(0.01)
                    seen.add(kept.current.hash)
                file.write(FILES[name][half:] + "# changed\n")
        whole = files_in(tmp_path).hash
        await until(lambda: seen.add(kept.current.hash) or kept.current.hash == whole)
        assert seen == {first, whole}


async def test_without_its_folder_the_old_catalogue_stays(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    folder = write(tmp_path / "config")
    async with watched(folder, told) as kept:
        before = kept.current
        shutil.rmtree(folder)
        await until(lambda: told)
        assert kept.current is before
        assert told[-1].result.problems
        write(folder)
        await until(lambda: told[-1].taken)
        assert kept.current.hash == before.hash


async def test_a_name_that_is_no_text_is_told_and_watching_goes_on(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    async with watched(write(tmp_path), told) as kept:
        path = os.fsencode(tmp_path) + b"/offers/\xff.yaml"
        os.close(os.open(path, os.O_CREAT))
        await until(lambda: told)
        assert not told[0].taken
        assert str(told[0].result.problems[0]).endswith(
            "a file of offers is named after its seller, like runflow-runs.yaml"
        )
        "".join(map(str, told[0].result.problems)).encode()
        os.unlink(path)
        cheaper(tmp_path, "0.05")
        await until(lambda: told[-1].taken)
        assert kept.current.hash == files_in(tmp_path).hash


async def test_whatever_goes_wrong_is_told_once_and_watching_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Reloaded] = []
    async with watched(write(tmp_path), told) as kept:
        before = kept.current
        for name, faulty in (("files_in", _faulty), ("loaded", _faulty)):
            told.clear()
            with monkeypatch.context() as patch:
                patch.setattr(f"gateway.config.watching.{name}", faulty)
                cheaper(tmp_path, "0.05" if name == "loaded" else "0.07")
                await until(lambda: told)
                await asyncio.sleep(0.3)
            assert [str(problem) for one in told[:1] for problem in one.result.problems] == [
                f"{tmp_path}:1: {UNEXPECTED}: RuntimeError"
            ]
            assert kept.current is before or name == "loaded"
            assert len([one for one in told if not one.taken]) == 1
            before = kept.current
        cheaper(tmp_path, "0.08")
        await until(lambda: told[-1].taken)
        assert planned(kept.current).ranked[0].quote.total == 80_000


def _faulty(_: object) -> None:
    raise RuntimeError("hunter2")


async def test_whoever_is_told_cannot_end_the_watching_nor_fail_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Reloaded] = []

    def refuse(one: Reloaded) -> None:
        told.append(one)
        raise RuntimeError("told and confused")

    kept = Keeper(write(tmp_path), secrets_in(KEYS), ADAPTERS, refuse)
    task = asyncio.create_task(kept.watch())
    for price in ("0.05", "0.07"):
        before = kept.current
        cheaper(tmp_path, price)
        await until(lambda before=before: kept.current is not before)
    assert (len(told), task.done()) == (2, False)
    assert capsys.readouterr().err.count("RuntimeError: told and confused") == 2
    task.cancel()


async def test_watch_off_means_off_until_somebody_asks(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    files = FILES | {"gateway.yaml": "reload: {watch: false, every_seconds: 0.05}\n"}
    async with watched(write(tmp_path, files), told) as kept:
        before = kept.current
        cheaper(tmp_path, "0.05")
        await asyncio.sleep(0.4)
        assert kept.current is before
        assert told == []
        assert kept.reload().taken
        assert planned(kept.current).ranked[0].quote.total == 50_000


async def test_watch_can_be_switched_off_by_a_change_and_then_stays_off(tmp_path: Path) -> None:
    told: list[Reloaded] = []
    async with watched(write(tmp_path), told) as kept:
        (tmp_path / "gateway.yaml").write_text("reload: {watch: false, every_seconds: 0.05}\n")
        await until(lambda: told)
        (tmp_path / "gateway.yaml").write_text("reload: {watch: true}\n")
        await asyncio.sleep(0.4)
        assert len(told) == 1
        assert kept.current.reload.watch is False


async def test_readers_always_see_one_whole_catalogue(tmp_path: Path) -> None:
    """Every version names its price in both sellers' files and in a team's limit; a mixture would show."""

    def version(cents: int) -> dict[str, str]:
        price = f'"0.{cents:02}"'
        return {
            **FILES,
            SHAPE: FILES[SHAPE].replace('"0.06"', price),
            "offers/by-pixel.yaml": FILES["offers/by-pixel.yaml"].replace('"0.133"', price),
            "teams.yaml": FILES["teams.yaml"].replace('"5.00"', price),
        }

    seen: set[int] = set()

    async def read(kept: Keeper) -> None:
        while True:
            catalogue = kept.current
            quotes = {ranked.quote.total for ranked in planned(catalogue).ranked}
            await asyncio.sleep(0)
            quotes |= {ranked.quote.total for ranked in planned(catalogue).ranked}
            quotes.add(int(catalogue.teams["design"].max_cost or 0))
            assert len(quotes) == 1
            seen.update(quotes)
            await asyncio.sleep(0.001)

    async with watched(write(tmp_path, version(10))) as kept, asyncio.TaskGroup() as group:
        readers = [group.create_task(read(kept)) for _ in range(5)]
        for cents in (11, 12, 13):
            write(tmp_path, version(cents))
            await until(lambda cents=cents: cents * 10_000 in seen)
        for reader in readers:
            reader.cancel()
    assert seen == {100_000, 110_000, 120_000, 130_000}


async def test_watching_keeps_the_loop_free_for_requests(tmp_path: Path) -> None:
    """The files are read and worked out beside the loop; a large configuration must not stall what is under way."""
    files = dict(FILES)
    for number in range(100):
        files[f"offers/extra-{number}.yaml"] = FILES[SHAPE]
    told: list[Reloaded] = []
    longest = 0.0
    async with watched(write(tmp_path, files), told):
        loop = asyncio.get_running_loop()
        cheaper(tmp_path, "0.05")
        while not told:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)
    assert longest < 0.5


def test_a_bad_start_is_refused_with_every_problem(tmp_path: Path) -> None:
    write(tmp_path, FILES | {"models.yaml": "models: {}\n", "gateway.yaml": "reload: 1\n"})
    with pytest.raises(ConfigError, match=r"(?s)gateway\.yaml:1: reload.*models\.yaml:1: models") as refused:
        keeper(tmp_path)
    assert len(refused.value.result.problems) == 4
