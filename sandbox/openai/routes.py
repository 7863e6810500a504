"""Routes of OpenAI's Images API as in `docs/quirks/openai.md`: synchronous, billed by tokens, no idempotency keys."""

import secrets
import time
from typing import Any

from litestar import Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, State
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.http_requests import HttpRequest, get_bearer_key
from sandbox.openai import errors, event_stream, field_checks, request_fields
from sandbox.openai.errors import OpenaiError
from sandbox.openai.image_params import OpenaiImageParams, parse_image_params, unknown_model_error
from sandbox.openai.order import OpenaiOrder
from sandbox.openai.prices import MODELS, OpenaiModel
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

API_KEY = "sk-sandbox"


class OpenaiState:
    """The state of the simulated OpenAI, which keeps nothing between requests."""

    def build_error_body(self, status: int, code: str | None = None, message: str | None = None) -> object:
        return errors.build_error_body(status, code, message)


def create_vendor_state(sandbox: SandboxState) -> OpenaiState:
    # For responses that do not come from a handler: unknown URLs and injected faults.
    sandbox.header_builders[Vendor.OPENAI] = lambda _: _build_response_headers(_generate_request_id(), 0.0)
    return OpenaiState()


def _generate_request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def _build_response_headers(request_id: str, duration_seconds: float) -> dict[str, str]:
    return {"x-request-id": request_id, "openai-processing-ms": str(int(duration_seconds * 1000))}


class RequestIdMiddleware(ASGIMiddleware):
    """Adds a request id to every response; the charge of an order has the same id."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        request_id = scope["state"]["request_id"] = _generate_request_id()
        started_at = time.monotonic()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableScopeHeaders.from_message(message).update(
                    _build_response_headers(request_id, time.monotonic() - started_at)
                )
            await send(message)

        await next_app(scope, receive, send_with_headers)


def require_api_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if (get_bearer_key(connection) or "").strip() != API_KEY:
        raise OpenaiError(401, "invalid_api_key")


def render_error(_: HttpRequest, error: OpenaiError) -> Response[Any]:
    return Response(error.body, status_code=error.status)


@post(["/images/generations", "/v1/images/generations"], status_code=200, opt={"route": RouteKind.SUBMIT})
async def create_generation(request: HttpRequest, state: State) -> Response[Any]:
    fields = field_checks.check_fields(await request_fields.parse_json_fields(request), field_checks.GENERATION_CHECKS)
    return await _fulfil_order(request, state.sandbox, parse_image_params(fields, "generate"))


@post(
    ["/images/edits", "/v1/images/edits"],
    status_code=200,
    opt={"route": RouteKind.SUBMIT},
    request_max_body_size=request_fields.MAX_BODY_BYTES,
)
async def create_edit(request: HttpRequest, state: State) -> Response[Any]:
    body = await request_fields.parse_edit_body(request, state.sandbox.source_fetcher)
    checks = field_checks.EDIT_FORM_CHECKS if body.param == "image" else field_checks.EDIT_JSON_CHECKS
    fields = field_checks.check_fields(body.fields, checks)
    # Validated without images first, so that nothing is fetched for an invalid request.
    parse_image_params(fields, "edit")
    return await _fulfil_order(
        request, state.sandbox, parse_image_params(fields, "edit", await request_fields.load_source_images(body))
    )


async def _fulfil_order(request: HttpRequest, sandbox: SandboxState, params: OpenaiImageParams) -> Response[Any]:
    order = OpenaiOrder(sandbox, params, request.scope["state"]["request_id"])
    if params.is_streaming and not order.is_content_refused:
        return Stream(
            event_stream.stream_events(order), media_type="text/event-stream", headers={"cache-control": "no-cache"}
        )
    await order.wait(request.receive)
    return Response(await order.build_response_body())


@get(["/models", "/v1/models"], opt={"route": RouteKind.ACCOUNT})
async def list_models() -> dict[str, Any]:
    return {"object": "list", "data": [_serialize_model(model) for model in MODELS.values()]}


# A path parameter: the SDK sends the slash of an id as %2F, which arrives as a slash.
@get(["/models/{model_id:path}", "/v1/models/{model_id:path}"], opt={"route": RouteKind.ACCOUNT})
async def get_model(model_id: FromPath[str]) -> dict[str, Any]:
    name = model_id.removeprefix("/")
    if name not in MODELS:
        raise unknown_model_error(name)
    return _serialize_model(MODELS[name])


def _serialize_model(model: OpenaiModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": "system"}


HANDLERS = [
    Router(
        path="/",
        route_handlers=[create_generation, create_edit, list_models, get_model],
        guards=[require_api_key],
        middleware=[RequestIdMiddleware()],
        exception_handlers={OpenaiError: render_error},
    )
]
