"""Two ways to administer API keys, budgets and targets of webhooks: through the admin API of a running gateway, or in
its store."""

import asyncio
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
    ApiKeyConfigured,
    ApiKeyInactive,
    ApiKeyNotFound,
    CreatedKey,
    InvalidKeyOption,
    KeyAdministration,
    ListedKey,
)
from gateway.access.key_requests import (
    ChangeKeyRequest,
    CreateKeyRequest,
    parse_duration,
    serialize_event,
    serialize_key,
)
from gateway.access.key_tokens import TokenDigester
from gateway.access.webhook_administration import (
    WebhookAdministration,
    WebhookTargetConflict,
    WebhookTargetNotFound,
)
from gateway.access.webhook_requests import (
    AddWebhookTargetRequest,
    ChangeWebhookTargetRequest,
    CreatedSecret,
    serialize_target,
)
from gateway.commands.configured_store import load_valid_catalogue, make_configured_store
from gateway.settings import SettingsError, load_settings, load_signing_secrets
from gateway.store.base import StoreError

TIMEOUT_SECONDS = 30.0
# How long the first attempt of a test is waited for: longer than it takes.
TEST_TIMEOUT_SECONDS, TEST_POLL_SECONDS = 30.0, 0.3
_EXPECTED_ERRORS = (
    *(ApiKeyNotFound, ApiKeyConfigured, ApiKeyInactive, OverrideNotFound, SettingsError),
    *(WebhookTargetNotFound, WebhookTargetConflict),
)
Json = dict[str, Any]


class KeyAdmin(Protocol):
    """Administers API keys, budgets and targets. All results have the form of the admin API. Raises ClickException."""

    async def create_key(self, request: CreateKeyRequest) -> Json: ...

    async def list_keys(self, team: str | None) -> list[Json]: ...

    async def change_key(self, key_id: str, request: ChangeKeyRequest) -> Json: ...

    async def rotate_key(self, key_id: str, overlap: str) -> Json: ...

    async def revoke_key(self, key_id: str) -> Json: ...

    async def list_events(self, limit: int) -> list[Json]: ...

    async def list_budgets(self, team: str | None) -> list[Json]: ...

    async def raise_budget(self, request: RaiseBudgetRequest) -> Json: ...

    async def end_override(self, override_id: str) -> Json: ...

    async def list_targets(self, team: str | None) -> list[Json]: ...

    async def add_target(self, request: AddWebhookTargetRequest) -> Json: ...

    async def change_target(self, target_id: str, request: ChangeWebhookTargetRequest) -> Json: ...

    async def remove_target(self, target_id: str) -> Json: ...

    async def rotate_secret(self, target_id: str, overlap: str) -> Json: ...

    async def send_test(self, target_id: str) -> Json:
        """Sends a test to a target. Returns its delivery after the first attempt, or while it is still pending."""


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

    async def change_key(self, key_id: str, request: ChangeKeyRequest) -> Json:
        return await self._call("PATCH", f"/keys/{quote(key_id, safe='')}", msgspec.to_builtins(request))

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

    async def list_targets(self, team: str | None) -> list[Json]:
        targets: list[Json] = (await self._call("GET", "/webhooks", params={"team": team} if team else {}))["data"]
        return targets

    async def add_target(self, request: AddWebhookTargetRequest) -> Json:
        return await self._call("POST", "/webhooks", msgspec.to_builtins(request))

    async def change_target(self, target_id: str, request: ChangeWebhookTargetRequest) -> Json:
        return await self._call("PATCH", f"/webhooks/{quote(target_id, safe='')}", msgspec.to_builtins(request))

    async def remove_target(self, target_id: str) -> Json:
        return await self._call("DELETE", f"/webhooks/{quote(target_id, safe='')}")

    async def rotate_secret(self, target_id: str, overlap: str) -> Json:
        return await self._call("POST", f"/webhooks/{quote(target_id, safe='')}/rotate", {"overlap": overlap})

    async def send_test(self, target_id: str) -> Json:
        delivery = await self._call("POST", f"/webhooks/{quote(target_id, safe='')}/test")
        ends_at = time.monotonic() + TEST_TIMEOUT_SECONDS
        while not delivery["attempts"] and time.monotonic() < ends_at:
            await asyncio.sleep(TEST_POLL_SECONDS)
            delivery = await self._call("GET", f"/deliveries/{delivery['id']}", base="/v1/webhooks")
        return delivery

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        base: str = "/v1/admin",
    ) -> Json:
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
                response = await client.request(
                    method,
                    f"{self._base}{base}{path}",
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

    def __init__(
        self, administration: KeyAdministration, budgets: BudgetAdministration, webhooks: WebhookAdministration
    ) -> None:
        self._administration, self._budgets, self._webhooks = administration, budgets, webhooks
        self._admin = Admin(f"cli:{_get_user()}", socket.gethostname())

    async def create_key(self, request: CreateKeyRequest) -> Json:
        return _serialize_created(await self._administration.create_key(request.to_options(), self._admin))

    async def list_keys(self, team: str | None) -> list[Json]:
        return [serialize_key(listed, time.time()) for listed in await self._administration.list_keys(team)]

    async def change_key(self, key_id: str, request: ChangeKeyRequest) -> Json:
        await self._administration.change_key(key_id, request.to_change(), self._admin)
        return serialize_key(await self._administration.get_key(key_id), time.time())

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

    async def list_targets(self, team: str | None) -> list[Json]:
        return [serialize_target(target, time.time()) for target in await self._webhooks.list_targets(team)]

    async def add_target(self, request: AddWebhookTargetRequest) -> Json:
        return _serialize_secret(await self._webhooks.add_target(request, self._admin))

    async def change_target(self, target_id: str, request: ChangeWebhookTargetRequest) -> Json:
        return serialize_target(await self._webhooks.change_target(target_id, request, self._admin), time.time())

    async def remove_target(self, target_id: str) -> Json:
        return serialize_target(await self._webhooks.remove_target(target_id, self._admin), time.time())

    async def rotate_secret(self, target_id: str, overlap: str) -> Json:
        overlap_seconds = parse_duration("overlap", overlap)
        return _serialize_secret(await self._webhooks.rotate_secret(target_id, overlap_seconds, self._admin))

    async def send_test(self, target_id: str) -> Json:
        raise click.UsageError("a running gateway sends the test: name it with --url")


def _serialize_created(created: CreatedKey) -> Json:
    return {**serialize_key(ListedKey(created.key, None), time.time()), "key": created.token}


def _serialize_secret(created: CreatedSecret) -> Json:
    return {**serialize_target(created.target, time.time()), "secret": created.secret}


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
    except _EXPECTED_ERRORS as error:
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
        parts: dict[str, Any] = {
            "store": store,
            "keys": keys,
            "catalogue": lambda: catalogue,
            "wall_clock": time.time,
            "draw_bytes": secrets.token_bytes,
            # The command line prints what it does; the event of admins is its record.
            "emit": lambda _: None,
        }
        yield LocalKeyAdmin(keys, BudgetAdministration(**parts), WebhookAdministration(**parts))
    finally:
        await store.close()
