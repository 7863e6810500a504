"""The reloader notices secrets that change, as it notices changed files."""

import asyncio
from pathlib import Path

import pytest

from gateway.config.reloader import ReloadResult
from gateway.config.value_types import Secret, sha256_hex
from tests.harness.wait import wait_until_async
from tests.unit.config.reloader_helpers import run_reloader
from tests.unit.config.sample_config import SAMPLE_FILES, write_config

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write_secret_files(folder: Path, **secrets: str) -> None:
    """Writes a configuration that refers to these secret files."""
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    accounts = SAMPLE_FILES["accounts.yaml"].replace("env:RUNAPI_KEY", f"file:{folder}/account")
    teams = SAMPLE_FILES["teams.yaml"] + f"    keys: [file:{folder}/team]\n"
    write_config(folder / "config", SAMPLE_FILES | {"accounts.yaml": accounts, "teams.yaml": teams})


async def test_rotated_secret_file_is_applied(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    write_secret_files(tmp_path, account="old", team="old team")
    async with run_reloader(tmp_path / "config", reloads) as reloader:
        first_hash = reloader.current.hash
        (tmp_path / "account").write_text("new")
        await wait_until_async(
            lambda: reloader.current.accounts["runapi"].api_key == Secret("new"), "the new key is in force"
        )
        (tmp_path / "next").write_text("new team")
        (tmp_path / "next").replace(tmp_path / "team")
        await wait_until_async(
            lambda: (
                [(digest, key.team) for digest, key in reloader.current.configured_keys.items()]
                == [(sha256_hex("new team"), "design")]
            ),
            "the team's new key is in force",
        )
        assert reloader.current.hash == first_hash
        await asyncio.sleep(0.3)
        assert len(reloads) == 2, "unchanged secrets are not reloaded"


async def test_deleted_secret_file_disables_its_account_until_it_is_back(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    write_secret_files(tmp_path, account="key", team="team key")
    async with run_reloader(tmp_path / "config", reloads) as reloader:
        (tmp_path / "account").unlink()
        await wait_until_async(lambda: reloads, "a reload is reported")
        assert reloader.current.accounts["runapi"].api_key is None
        assert [warning.message for warning in reloads[0].resolved.warnings] == [
            f"file:{tmp_path}/account not found: the account is disabled"
        ]
        (tmp_path / "account").write_text("key")
        await wait_until_async(lambda: len(reloads) == 2, "two reloads are reported")
        assert reloader.current.accounts["runapi"].api_key == Secret("key")


async def test_secret_that_changes_while_a_file_is_invalid_is_reported(tmp_path: Path) -> None:
    reloads: list[ReloadResult] = []
    write_secret_files(tmp_path, account="old", team="team key")
    async with run_reloader(tmp_path / "config", reloads) as reloader:
        models = (tmp_path / "config/models.yaml").read_text()
        (tmp_path / "config/models.yaml").write_text("models: [")
        await wait_until_async(lambda: reloads, "the invalid file is reported")
        assert reloads[-1].unapplied_secrets == ()
        (tmp_path / "account").write_text("new")
        await wait_until_async(lambda: len(reloads) == 2, "the changed secret is reported")
        assert reloads[-1].unapplied_secrets == (f"file:{tmp_path}/account",)
        assert reloader.current.accounts["runapi"].api_key == Secret("old")
        (tmp_path / "config/models.yaml").write_text(models)
        await wait_until_async(lambda: reloads[-1].is_applied, "a reload is applied")
        assert reloads[-1].unapplied_secrets == ()
        assert reloader.current.accounts["runapi"].api_key == Secret("new")
