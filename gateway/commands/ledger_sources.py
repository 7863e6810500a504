"""Two ways to read the ledger: through the API of a running gateway, or in its store. Both give the API's JSON."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import click
import httpx
import msgspec

from gateway.commands.configured_store import load_valid_catalogue, make_existing_store
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report_json import serialize_entry_list, serialize_report
from gateway.ledger.report_options import InvalidReportOption, ReportOptions
from gateway.ledger.report_reader import IRREGULAR_LINES, list_irregular_entries, load_report
from gateway.settings import SettingsError, load_settings
from gateway.store.base import Store, StoreError

TIMEOUT_SECONDS = 30.0


class LedgerSource(Protocol):
    """Reads the ledger. All results are JSON. Raises ClickException."""

    async def load_report(self, options: ReportOptions) -> bytes: ...

    async def list_entries(self, options: ReportOptions, lines: tuple[LedgerLine, ...]) -> bytes: ...


class RemoteLedger:
    """Uses the API of the gateway at `url`, which may end with /v1."""

    def __init__(self, url: str, key: str | None) -> None:
        if not key:
            raise click.UsageError("--url requires an admin key: set --admin-key or IGW_ADMIN_KEY")
        self._base, self._key = url.rstrip("/").removesuffix("/v1"), key

    async def load_report(self, options: ReportOptions) -> bytes:
        return await self._get("/usage", {**_list_params(options), "group_by": ",".join(options.group_by)})

    async def list_entries(self, options: ReportOptions, lines: tuple[LedgerLine, ...]) -> bytes:
        return await self._get("/admin/ledger", {**_list_params(options), "lines": ",".join(lines)})

    async def _get(self, path: str, params: Mapping[str, str]) -> bytes:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                response = await client.get(
                    f"{self._base}/v1{path}",
                    params={name: value for name, value in params.items() if value},
                    headers={"authorization": f"Bearer {self._key}"},
                )
        except httpx.HTTPError as error:
            message = f"{self._base} is unreachable ({type(error).__name__}). Is the gateway running?"
            raise click.ClickException(message) from None
        if response.is_success:
            return response.content
        try:
            message = str(response.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"{self._base} responded {response.status_code}. Is it an image-gateway?"
        raise click.ClickException(message)


class StoredLedger:
    """Reads the store directly, with the settings of `serve`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load_report(self, options: ReportOptions) -> bytes:
        return msgspec.json.encode(serialize_report(await load_report(self._store, options, time.time())))

    async def list_entries(self, options: ReportOptions, lines: tuple[LedgerLine, ...]) -> bytes:
        listed = await list_irregular_entries(self._store, options, time.time(), lines or IRREGULAR_LINES)
        return msgspec.json.encode(serialize_entry_list(listed))


def _list_params(options: ReportOptions) -> dict[str, str]:
    return {"since": options.since, "until": options.until, "team": options.team or ""}


@asynccontextmanager
async def open_ledger(
    url: str | None, key: str | None, config: Path | None, data: Path | None
) -> AsyncIterator[LedgerSource]:
    """Opens the API at `url`; without it, the store. Raises ClickException for every expected error."""
    if url is not None:
        yield RemoteLedger(url, key)
        return
    try:
        async with open_configured_store(config, data) as store:
            yield StoredLedger(store)
    except InvalidReportOption as error:
        raise click.UsageError(f"--{error.option.replace('_', '-')} {error}") from None


@asynccontextmanager
async def open_configured_store(
    config: Path | None, data: Path | None, in_use_hint: str = "With SQLite, use the running gateway: --url URL"
) -> AsyncIterator[Store]:
    """Opens the store that `serve` would open. Raises ClickException for every expected error."""
    try:
        settings = load_settings(os.environ, config=config, data=data)
        store = make_existing_store(settings, load_valid_catalogue(settings))
        await store.open()
        try:
            yield store
        finally:
            await store.close()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    except StoreError as error:
        hint = f" {in_use_hint}" if "is in use" in str(error) else ""
        raise click.ClickException(f"{error}{hint}") from None
