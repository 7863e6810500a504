"""The reloader applies changed files as a whole or not at all, reports errors, and keeps removed offers for their
orders."""

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from gateway.config.catalogue_builder import secrets_from_env
from gateway.config.config_file_reader import ConfigFiles, read_folder
from gateway.config.loader import LoadedFiles, load_files
from gateway.config.reloader import UNEXPECTED_ERROR, ConfigError, ConfigReloader, ReloadResult
from providers import ADAPTERS
from tests.harness.wait import wait_until_async
from tests.unit.config.reloader_helpers import (
    BY_SHAPE_FILE,
    make_reloader,
    plan_sample_request,
    reload_now,
    run_reloader,
    set_price,
)
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_valid_change_is_applied_and_reported(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    async with run_reloader(write_config(tmp_path), reloads) as reloader:
        before = reloader.current
        set_price(tmp_path, "0.05")
        await wait_until_async(lambda: reloads, "a reload is reported")
        assert reloader.current is not before
        assert reloader.current.hash != before.hash
        assert plan_sample_request(reloader.current).ranked[0].quote.total == 50_000
        assert plan_sample_request(before).ranked[0].quote.total == 60_000, "a reader keeps the old catalogue unchanged"
        assert (reloads[0].is_applied, reloads[0].previous_hash, reloader.last_result) == (
            True,
            before.hash,
            reloads[0],
        )


async def test_invalid_change_is_not_applied_and_reported_once(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    async with run_reloader(write_config(tmp_path), reloads) as reloader:
        before = reloader.current
        (tmp_path / "models.yaml").write_text("models: {image-2: {max_images: 0}}\n")
        (tmp_path / "teams.yaml").write_text("teams: {design: {policies: none}}\n")
        await wait_until_async(lambda: reloads, "a reload is reported")
        await asyncio.sleep(0.3)
        assert reloader.current is before
        assert not reloads[0].is_applied
        assert [str(problem).split(": ")[1] for problem in reloader.last_result.resolved.problems] == [
            "models.image-2.max_images",
            "teams.design.policies",
        ]
        assert len(reloads) == 1
        write_config(tmp_path)
        await wait_until_async(lambda: len(reloads) == 2, "two reloads are reported")
        assert reloads[1].is_applied


async def test_change_with_same_size_and_mtime_is_detected(tmp_path: Path) -> None:
    """Copies may preserve times, and coarse clocks give the same time to two quick writes."""
    async with run_reloader(write_config(tmp_path)) as reloader:
        path, before = tmp_path / BY_SHAPE_FILE, reloader.current.hash
        stat = path.stat()
        set_price(tmp_path, "0.07")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        await wait_until_async(lambda: reloader.current.hash != before, "the change is in force")
        assert plan_sample_request(reloader.current).ranked[0].quote.total == 70_000


async def test_swapped_symlink_is_detected(tmp_path: Path) -> None:
    """Kubernetes updates a mounted ConfigMap this way."""
    write_config(tmp_path / "one")
    write_config(tmp_path / "two")
    set_price(tmp_path / "two", "0.05")
    link = tmp_path / "config"
    link.symlink_to("one")
    async with run_reloader(link) as reloader:
        before = reloader.current.hash
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(link)
        await wait_until_async(lambda: reloader.current.hash != before, "the change is in force")
        assert reloader.current.hash == read_folder(tmp_path / "two").hash


def test_hash_changes_exactly_when_a_byte_changes(tmp_path: Path) -> None:
    reloader = make_reloader(write_config(tmp_path))
    first = reloader.current.hash
    assert len(first) == 12
    assert reload_now(reloader).is_applied
    assert reloader.current.hash == first
    (tmp_path / "notes.txt").write_text("no part of it")
    reload_now(reloader)
    assert reloader.current.hash == first
    seen = {first}
    for name, text in SAMPLE_FILES.items():
        (tmp_path / name).write_text(text + "#")
        reload_now(reloader)
        assert reloader.current.hash not in seen
        seen.add(reloader.current.hash)
        (tmp_path / name).write_text(text)
        reload_now(reloader)
        assert reloader.current.hash == first


def test_same_bytes_in_other_folder_have_same_hash(tmp_path: Path) -> None:
    assert read_folder(write_config(tmp_path / "a")).hash == read_folder(write_config(tmp_path / "b")).hash


async def test_files_written_in_steps_are_applied_together(tmp_path: Path) -> None:
    """Each step leaves valid files, but only both changes together are intended."""
    async with run_reloader(write_config(tmp_path)) as reloader:
        first, seen = reloader.current.hash, set()
        for name in (BY_SHAPE_FILE, "offers/by-pixel.yaml"):
            with (tmp_path / name).open("w") as file:
                half = len(SAMPLE_FILES[name]) // 2
                file.write(SAMPLE_FILES[name][:half])
                file.flush()
                for _ in range(6):
                    await asyncio.sleep(0.01)
                    seen.add(reloader.current.hash)
                file.write(SAMPLE_FILES[name][half:] + "# changed\n")
        final_hash = read_folder(tmp_path).hash
        await wait_until_async(
            lambda: seen.add(reloader.current.hash) or reloader.current.hash == final_hash,
            "the final configuration is in force",
        )
        assert seen == {first, final_hash}


async def test_deleted_folder_keeps_current_catalogue(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    folder = write_config(tmp_path / "config")
    async with run_reloader(folder, reloads) as reloader:
        before = reloader.current
        shutil.rmtree(folder)
        await wait_until_async(lambda: reloads, "a reload is reported")
        assert reloader.current is before
        assert reloads[-1].resolved.problems
        write_config(folder)
        await wait_until_async(lambda: reloads[-1].is_applied, "a reload is applied")
        assert reloader.current.hash == before.hash


async def test_non_utf8_file_name_is_reported_and_reloader_continues(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    async with run_reloader(write_config(tmp_path), reloads) as reloader:
        path = os.fsencode(tmp_path) + b"/offers/\xff.yaml"
        os.close(os.open(path, os.O_CREAT))
        await wait_until_async(lambda: reloads, "a reload is reported")
        assert not reloads[0].is_applied
        assert str(reloads[0].resolved.problems[0]).endswith(
            "Invalid file name. Name offer files after their seller, like runflow-runs.yaml"
        )
        "".join(map(str, reloads[0].resolved.problems)).encode()
        os.unlink(path)
        set_price(tmp_path, "0.05")
        await wait_until_async(lambda: reloads[-1].is_applied, "a reload is applied")
        assert reloader.current.hash == read_folder(tmp_path).hash


async def test_internal_error_is_reported_once_and_reloader_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[ReloadResult] = []
    async with run_reloader(write_config(tmp_path), reloads) as reloader:
        before = reloader.current
        for name, faulty in (("read_folder", _raise_error), ("load_files", _raise_error)):
            reloads.clear()
            with monkeypatch.context() as patch:
                patch.setattr(f"gateway.config.reloader.{name}", faulty)
                set_price(tmp_path, "0.05" if name == "load_files" else "0.07")
                await wait_until_async(lambda: reloads, "a reload is reported")
                await asyncio.sleep(0.3)
            assert [str(problem) for reload in reloads[:1] for problem in reload.resolved.problems] == [
                f"{tmp_path}:1: {UNEXPECTED_ERROR}: RuntimeError"
            ]
            assert reloader.current is before or name == "load_files"
            assert len([reload for reload in reloads if not reload.is_applied]) == 1
            before = reloader.current
        set_price(tmp_path, "0.08")
        await wait_until_async(lambda: reloads[-1].is_applied, "a reload is applied")
        assert plan_sample_request(reloader.current).ranked[0].quote.total == 80_000


def _raise_error(_: object) -> None:
    raise RuntimeError("hunter2")


async def test_failing_listener_does_not_stop_reloader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reloads: list[ReloadResult] = []

    def raise_on_reload(reload: ReloadResult) -> None:
        reloads.append(reload)
        raise RuntimeError("listener failed")

    reloader = ConfigReloader(write_config(tmp_path), secrets_from_env(SAMPLE_ENVIRON), ADAPTERS, raise_on_reload)
    task = asyncio.create_task(reloader.run())
    for price in ("0.05", "0.07"):
        before = reloader.current
        set_price(tmp_path, price)
        await wait_until_async(lambda before=before: reloader.current is not before, "the change is in force")
    assert (len(reloads), task.done()) == (2, False)
    assert capsys.readouterr().err.count("RuntimeError: listener failed") == 2
    task.cancel()


async def test_disabled_watch_reloads_only_on_request(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    files = SAMPLE_FILES | {"gateway.yaml": "reload: {watch: false, every_seconds: 0.05}\n"}
    async with run_reloader(write_config(tmp_path, files), reloads) as reloader:
        before = reloader.current
        set_price(tmp_path, "0.05")
        await asyncio.sleep(0.4)
        assert reloader.current is before
        assert reloads == []
        assert (await reloader.reload()).is_applied
        assert plan_sample_request(reloader.current).ranked[0].quote.total == 50_000


async def test_requested_reload_is_applied_even_without_watch(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    files = SAMPLE_FILES | {"gateway.yaml": "reload: {watch: false, every_seconds: 86400}\n"}
    async with run_reloader(write_config(tmp_path, files), reloads) as reloader:
        for price, total in (("0.05", 50_000), ("0.07", 70_000)):
            reloads.clear()
            set_price(tmp_path, price)
            reloader.request_reload()
            await wait_until_async(lambda: reloads, "a reload is reported")
            assert plan_sample_request(reloader.current).ranked[0].quote.total == total


async def test_reload_requested_during_a_reload_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reloads: list[ReloadResult] = []
    files = SAMPLE_FILES | {"gateway.yaml": "reload: {watch: false, every_seconds: 86400}\n"}
    async with run_reloader(write_config(tmp_path, files), reloads) as reloader:

        def change_price_while_resolving(contents: ConfigFiles) -> LoadedFiles:
            if not reloads:
                set_price(tmp_path, "0.05")
                loop.call_soon_threadsafe(reloader.request_reload)
            return load_files(contents)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr("gateway.config.reloader.load_files", change_price_while_resolving)
        reloader.request_reload()
        await wait_until_async(lambda: len(reloads) == 2, "two reloads are reported")
        assert plan_sample_request(reloader.current).ranked[0].quote.total == 50_000


async def test_watch_can_be_disabled_by_a_reload(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    async with run_reloader(write_config(tmp_path), reloads) as reloader:
        (tmp_path / "gateway.yaml").write_text("reload: {watch: false, every_seconds: 0.05}\n")
        await wait_until_async(lambda: reloads, "a reload is reported")
        (tmp_path / "gateway.yaml").write_text("reload: {watch: true}\n")
        await asyncio.sleep(0.4)
        assert len(reloads) == 1
        assert reloader.current.reload.watch is False


async def test_readers_see_consistent_catalogue(tmp_path: Path) -> None:
    """Every version has its price in both offer files and in a team's limit, so that a mixture of versions is
    visible."""

    def make_files(cents: int) -> dict[str, str]:
        price = f'"0.{cents:02}"'
        return {
            **SAMPLE_FILES,
            BY_SHAPE_FILE: SAMPLE_FILES[BY_SHAPE_FILE].replace('"0.06"', price),
            "offers/by-pixel.yaml": SAMPLE_FILES["offers/by-pixel.yaml"].replace('"0.133"', price),
            "teams.yaml": SAMPLE_FILES["teams.yaml"].replace('"5.00"', price),
        }

    seen: set[int] = set()

    async def read_repeatedly(reloader: ConfigReloader) -> None:
        while True:
            catalogue = reloader.current
            quotes = {ranked.quote.total for ranked in plan_sample_request(catalogue).ranked}
            await asyncio.sleep(0)
            quotes |= {ranked.quote.total for ranked in plan_sample_request(catalogue).ranked}
            quotes.add(int(catalogue.teams["design"].max_cost or 0))
            assert len(quotes) == 1
            seen.update(quotes)
            await asyncio.sleep(0.001)

    async with run_reloader(write_config(tmp_path, make_files(10))) as reloader, asyncio.TaskGroup() as group:
        readers = [group.create_task(read_repeatedly(reloader)) for _ in range(5)]
        for cents in (11, 12, 13):
            write_config(tmp_path, make_files(cents))
            await wait_until_async(lambda cents=cents: cents * 10_000 in seen, "the price is in force")
        for reader in readers:
            reader.cancel()
    assert seen == {100_000, 110_000, 120_000, 130_000}


@pytest.mark.thorough
@pytest.mark.parametrize("watch", ["true", "false"])
async def test_reloading_does_not_block_event_loop(watch: str, tmp_path: Path) -> None:
    """Files are read and resolved in a thread, so that a large configuration does not delay requests."""
    files = dict(SAMPLE_FILES) | {"gateway.yaml": f"reload: {{watch: {watch}, every_seconds: 0.05}}\n"}
    for number in range(100):
        files[f"offers/extra-{number}.yaml"] = SAMPLE_FILES[BY_SHAPE_FILE]
    reloads: list[ReloadResult] = []
    longest = 0.0
    async with run_reloader(write_config(tmp_path, files), reloads) as reloader:
        write_config(tmp_path, {name: f"{text}# watch: {watch}\n" for name, text in files.items()})
        if watch == "false":
            reloader.request_reload()
        while not reloads:
            # Not the time that passed: on a busy machine, other processes take a part of it.
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)
    assert reloads[0].is_applied
    assert longest < 0.05


def test_invalid_configuration_at_start_raises_all_problems(tmp_path: Path) -> None:
    write_config(tmp_path, SAMPLE_FILES | {"models.yaml": "models: {}\n", "gateway.yaml": "reload: 1\n"})
    with pytest.raises(ConfigError, match=r"(?s)gateway\.yaml:1: reload.*models\.yaml:1: models") as error_info:
        make_reloader(tmp_path)
    assert len(error_info.value.resolved.problems) == 2
