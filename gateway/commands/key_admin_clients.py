"""Two ways to administer API keys: through the admin API of a running gateway, or in its store."""

import getpass
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import click
import httpx
import msgspec

from gateway.access.budget_administration import (
    BudgetAdministration,
    OverrideNotFound,
    RaiseBudgetRequest,
    serialize_budget,
    serialize_override,
)
from gateway.access.key_administration import (
    Admin,
    ApiKeyInactive,
    ApiKeyNotFound,
    CreatedKey,
    InvalidKeyOption,
    KeyAdministration,
    ListedKey,
)
from gateway.access.key_requests import CreateKeyRequest, parse_duration, serialize_event, serialize_key
from gateway.access.key_tokens import TokenDigester
from gateway.commands.configured_store import load_valid_catalogue, make_configured_store
from gateway.settings import SettingsError, load_settings, load_signing_secrets
from gateway.store.base import StoreError

TIMEOUT_SECONDS = 30.0
Json = dict[str, Any]


class KeyAdmin(Protocol):
    """Administers API keys. All results have the form of the admin API. Raises ClickException."""

    async def create_key(self, request: CreateKeyRequest) -> Json: ...

    async def list_keys(self, team: str | None) -> list[Json]: ...

    async def rotate_key(self, key_id: str, overlap: str) -> Json: ...

    async def revoke_key(self, key_id: str) -> Json: ...

    async def list_events(self, limit: int) -> list[Json]: ...

    async def list_budgets(self, team: str | None) -> list[Json]: ...

    async def raise_budget(self, request: RaiseBudgetRequest) -> Json: ...

    async def end_override(self, override_id: str) -> Json: ...


class RemoteKeyAdmin:
    """Uses the admin API of the gateway at `url`, which may end with /v1."""

    def __init__(self, url: str, key: str | None) -> None:
        if not key:
            raise click.UsageError("--url requires an admin key: set --admin-key or IGW_ADMIN_KEY")
        self._base, self._key = url.rstrip("/").removesuffix("/v1"), key

    async def create_key(self, request: CreateKeyRequest) -> Json:
        return await self._call("POST", "/keys", msgspec.to_builtins(request))

    async def list_keys(self, team: str | None) -> list[Json]:
        keys: list[Json] = (await self._call("GET", "/keys", params={"team": team} if team else {}))["data"]
        return keys

    async def rotate_key(self, key_id: str, overlap: str) -> Json:
        return await self._call("POST", f"/keys/{quote(key_id, safe='')}/rotate", {"overlap": overlap})

    async def revoke_key(self, key_id: str) -> Json:
        return await self._call("POST", f"/keys/{quote(key_id, safe='')}/revoke", {})

    async def list_events(self, limit: int) -> list[Json]:
        events: list[Json] = (await self._call("GET", "/events", params={"limit": str(limit)}))["data"]
        return events

    async def list_budgets(self, team: str | None) -> list[Json]:
        budgets: list[Json] = (await self._call("GET", "/budgets", params={"team": team} if team else {}))["data"]
        return budgets

    async def raise_budget(self, request: RaiseBudgetRequest) -> Json:
        return await self._call("POST", "/budgets", msgspec.to_builtins(request))

    async def end_override(self, override_id: str) -> Json:
        return await self._call("DELETE", f"/budgets/{quote(override_id, safe='')}")

    async def _call(
        self, method: str, path: str, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> Json:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                response = await client.request(
                    method,
                    f"{self._base}/v1/admin{path}",
                    json=body,
                    params=params,
                    headers={"authorization": f"Bearer {self._key}"},
                )
        except httpx.HTTPError as error:
            message = f"{self._base} is unreachable ({type(error).__name__}). Is the gateway running?"
            raise click.ClickException(message) from None
        return self._read_response(response)

    def _read_response(self, response: httpx.Response) -> Json:
        try:
            body: Json = response.json()
            if response.is_success:
                return body
            message = str(body["error"]["message"])
        except (ValueError, KeyError, TypeError):
            raise click.ClickException(
                f"{self._base} responded {response.status_code}. Is it an image-gateway?"
            ) from None
        raise click.ClickException(message)


class LocalKeyAdmin:
    """Changes the store directly, with the settings of `serve`."""

    def __init__(self, administration: KeyAdministration, budgets: BudgetAdministration) -> None:
        self._administration, self._budgets = administration, budgets
        self._admin = Admin(f"cli:{_get_user()}", socket.gethostname())

    async def create_key(self, request: CreateKeyRequest) -> Json:
        return _serialize_created(await self._administration.create_key(request.to_options(), self._admin))

    async def list_keys(self, team: str | None) -> list[Json]:
        return [serialize_key(listed, time.time()) for listed in await self._administration.list_keys(team)]

    async def rotate_key(self, key_id: str, overlap: str) -> Json:
        overlap_seconds = parse_duration("overlap", overlap)
        return _serialize_created(await self._administration.rotate_key(key_id, overlap_seconds, self._admin))

    async def revoke_key(self, key_id: str) -> Json:
        key = await self._administration.revoke_key(key_id, self._admin)
        return serialize_key(ListedKey(key, None), time.time())

    async def list_events(self, limit: int) -> list[Json]:
        return [serialize_event(event) for event in (await self._administration.list_events(limit, None)).events]

    async def list_budgets(self, team: str | None) -> list[Json]:
        return [serialize_budget(state) for state in await self._budgets.list_budgets(team and (team,))]

    async def raise_budget(self, request: RaiseBudgetRequest) -> Json:
        return serialize_override(await self._budgets.raise_budget(request, self._admin))

    async def end_override(self, override_id: str) -> Json:
        return serialize_override(await self._budgets.end_override(override_id, self._admin))


def _serialize_created(created: CreatedKey) -> Json:
    return {**serialize_key(ListedKey(created.key, None), time.time()), "key": created.token}


def _get_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@asynccontextmanager
async def open_key_admin(
    url: str | None, key: str | None, config: Path | None, data: Path | None
) -> AsyncIterator[KeyAdmin]:
    """Opens the admin API at `url`; without it, the store. Raises ClickException for every expected error."""
    if url is not None:
        yield RemoteKeyAdmin(url, key)
        return
    try:
        async with _open_administration(config, data) as admin:
            yield admin
    except InvalidKeyOption as error:
        raise click.UsageError(f"{error.option}: {error}") from None
    except (ApiKeyNotFound, ApiKeyInactive, OverrideNotFound, SettingsError) as error:
        raise click.ClickException(str(error)) from None
    except StoreError as error:
        hint = " With SQLite, use the running gateway: --url URL" if "is in use" in str(error) else ""
        raise click.ClickException(f"{error}{hint}") from None


@asynccontextmanager
async def _open_administration(config: Path | None, data: Path | None) -> AsyncIterator[LocalKeyAdmin]:
    settings = load_settings(os.environ, config=config, data=data)
    catalogue = load_valid_catalogue(settings)
    digester = TokenDigester(load_signing_secrets(settings))
    store = make_configured_store(settings, catalogue)
    await store.open()
    try:
        keys = KeyAdministration(store.api_keys, digester, lambda: catalogue, time.time, secrets.token_bytes)
        budgets = BudgetAdministration(
            store=store,
            keys=keys,
            catalogue=lambda: catalogue,
            wall_clock=time.time,
            draw_bytes=secrets.token_bytes,
            # The command line prints what it does; the event of admins is its record.
            emit=lambda _: None,
        )
        yield LocalKeyAdmin(keys, budgets)
    finally:
        await store.close()
