"""The admin API of the targets of webhooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Response, delete, get, patch, post

from gateway.access.key_requests import parse_duration
from gateway.access.webhook_administration import WebhookTargetConflict, WebhookTargetNotFound
from gateway.access.webhook_requests import (
    AddWebhookTargetRequest,
    ChangeWebhookTargetRequest,
    CreatedSecret,
    ListedTarget,
    RotateSecretRequest,
    serialize_target,
)
from gateway.api.access_control import ADMIN
from gateway.api.admin_api import get_value, list_response, make_admin, parse_body, translate_errors
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.json_responses import json_response
from gateway.api.query_params import read_query_params
from gateway.api.webhooks.webhooks_api import queue_target_test

TARGETS_PATH = "/v1/admin/webhooks"
_ONE_TARGET = f"{TARGETS_PATH}/{{target_id:str}}"


@get(TARGETS_PATH, opt=ADMIN)
async def list_webhook_targets(request: HttpRequest) -> Response[bytes]:
    """Lists the targets of the configuration and of the store; with `?team=`, those of a team."""
    context, params = get_context(request), read_query_params(request, "team")
    targets = await context.webhook_administration.list_targets(get_value(params["team"]))
    return list_response([serialize_target(target, context.wall_clock()) for target in targets])


@post(TARGETS_PATH, status_code=201, opt=ADMIN)
async def add_webhook_target(request: HttpRequest) -> Response[bytes]:
    """Adds a target. Only this response contains its secret."""
    body = await parse_body(request, AddWebhookTargetRequest)
    with _translate_errors():
        created = await get_context(request).webhook_administration.add_target(body, make_admin(request))
    return await _respond_with_secret(request, created, {"location": f"{TARGETS_PATH}/{created.target.id}"})


@get(_ONE_TARGET, opt=ADMIN)
async def get_webhook_target(request: HttpRequest, target_id: str) -> Response[bytes]:
    with _translate_errors():
        target = await get_context(request).webhook_administration.get_target(target_id)
    return _respond(request, target)


@patch(_ONE_TARGET, status_code=200, opt=ADMIN)
async def change_webhook_target(request: HttpRequest, target_id: str) -> Response[bytes]:
    """Changes what the body contains. A changed URL also holds for webhooks that are pending."""
    context = get_context(request)
    body = await parse_body(request, ChangeWebhookTargetRequest)
    with _translate_errors():
        target = await context.webhook_administration.change_target(target_id, body, make_admin(request))
    await context.stored_targets.refresh()
    return _respond(request, target)


@delete(_ONE_TARGET, status_code=200, opt=ADMIN)
async def remove_webhook_target(request: HttpRequest, target_id: str) -> Response[bytes]:
    """Removes a target. Its pending webhooks are given up."""
    context = get_context(request)
    with _translate_errors():
        target = await context.webhook_administration.remove_target(target_id, make_admin(request))
    await context.stored_targets.refresh()
    return _respond(request, target)


@post(f"{_ONE_TARGET}/rotate", status_code=201, opt=ADMIN)
async def rotate_webhook_secret(request: HttpRequest, target_id: str) -> Response[bytes]:
    """Gives a target a new secret. Its webhooks are also signed with the old one for the `overlap`."""
    body = await parse_body(request, RotateSecretRequest)
    with _translate_errors():
        seconds = parse_duration("overlap", body.overlap)
        administration = get_context(request).webhook_administration
        created = await administration.rotate_secret(target_id, seconds, make_admin(request))
    return await _respond_with_secret(request, created, {})


@post(f"{_ONE_TARGET}/test", status_code=202, opt=ADMIN)
async def test_webhook_target(request: HttpRequest, target_id: str) -> Response[bytes]:
    """Sends a webhook of the type `webhook.test` to a target, also one of the configuration."""
    context = get_context(request)
    with _translate_errors():
        target = await context.webhook_administration.get_target(target_id)
        if not target.is_enabled:
            raise WebhookTargetConflict(f"Target '{target.name}' is disabled. Enable it first")
    # Another replica may have added it a moment ago.
    await context.stored_targets.refresh()
    return await queue_target_test(context, target.team, target.name)


def _respond(request: HttpRequest, target: ListedTarget) -> Response[bytes]:
    return json_response(serialize_target(target, get_context(request).wall_clock()), 200, {})


async def _respond_with_secret(
    request: HttpRequest, created: CreatedSecret, headers: dict[str, str]
) -> Response[bytes]:
    context = get_context(request)
    await context.stored_targets.refresh()
    body = serialize_target(created.target, context.wall_clock())
    return json_response({**body, "secret": created.secret}, 201, headers)


@contextmanager
def _translate_errors() -> Iterator[None]:
    with translate_errors():
        try:
            yield
        except WebhookTargetNotFound:
            message = "Webhook target not found. List them with GET /v1/admin/webhooks."
            raise ApiError(404, "webhook_target_not_found", message) from None
        except WebhookTargetConflict as error:
            raise ApiError(409, "webhook_target_conflict", f"{error}. Nothing was changed.") from None


WEBHOOK_TARGET_HANDLERS: list[Any] = [
    *(list_webhook_targets, add_webhook_target, get_webhook_target, change_webhook_target, remove_webhook_target),
    *(rotate_webhook_secret, test_webhook_target),
]
