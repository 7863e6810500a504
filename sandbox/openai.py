"""OpenAI's Images API, as `docs/quirks/openai.md` describes it: synchronous, billed by tokens, no idempotency keys."""

import secrets
import time
from typing import Any

from litestar import Request, Response, Router, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, State
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from sandbox import openai_body, openai_errors, openai_fields, openai_stream
from sandbox.mischief import Route, Vendor
from sandbox.openai_errors import RefusedError
from sandbox.openai_prices import MODELS, Model
from sandbox.openai_request import Wanted, no_such_model, wanted
from sandbox.openai_sale import Sale
from sandbox.world import World

GOOD_KEY = "sk-sandbox"
HttpRequest = Request[object, object, State]


class OpenaiState:
    """OpenAI remembers nothing between requests that a caller could ask for."""

    def error(self, status: int, code: str | None = None, message: str | None = None) -> object:
        return openai_errors.envelope(status, code, message)


def open_shop(world: World) -> OpenaiState:
    # For the answers that never reach a handler: unknown URLs and staged refusals.
    world.letterheads[Vendor.OPENAI] = lambda _: _stamps(_new_id(), 0.0)
    return OpenaiState()


def _new_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def _stamps(request_id: str, took: float) -> dict[str, str]:
    return {"x-request-id": request_id, "openai-processing-ms": str(int(took * 1000))}


class Stamped(ASGIMiddleware):
    """Every answer says which request it belongs to; the invoice line of a sale has the same id."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        request_id = scope["state"]["request_id"] = _new_id()
        began = time.monotonic()

        async def stamp(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableScopeHeaders.from_message(message).update(_stamps(request_id, time.monotonic() - began))
            await send(message)

        await next_app(scope, receive, stamp)


def know_the_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    scheme, key = connection.headers.get("authorization", "").partition(" ")[::2]
    if scheme.lower() != "bearer" or key.strip() != GOOD_KEY:
        raise RefusedError(401, "invalid_api_key")


def refused(_: Request[Any, Any, Any], error: RefusedError) -> Response[Any]:
    return Response(error.body, status_code=error.status)


@post(["/images/generations", "/v1/images/generations"], status_code=200, opt={"route": Route.SUBMIT})
async def generate(request: HttpRequest, state: State) -> Response[Any]:
    fields = openai_fields.checked(await openai_body.json_fields(request), openai_fields.GENERATION)
    return await _sell(request, state.world, wanted(fields, "generate"))


@post(
    ["/images/edits", "/v1/images/edits"],
    status_code=200,
    opt={"route": Route.SUBMIT},
    request_max_body_size=openai_body.MAX_BODY_BYTES,
)
async def edit(request: HttpRequest, state: State) -> Response[Any]:
    body = await openai_body.edit_body(request, state.world.sources)
    allowed = openai_fields.EDIT_FORM if body.param == "image" else openai_fields.EDIT_JSON
    fields = openai_fields.checked(body.fields, allowed)
    # Once without the pictures, so that nothing is fetched for a request that is wrong anyway.
    wanted(fields, "edit")
    return await _sell(request, state.world, wanted(fields, "edit", await openai_body.sources(body)))


async def _sell(request: HttpRequest, world: World, asked: Wanted) -> Response[Any]:
    sale = Sale(world, asked, request.scope["state"]["request_id"])
    if asked.stream and not sale.refused:
        return Stream(openai_stream.frames(sale), media_type="text/event-stream", headers={"cache-control": "no-cache"})
    await sale.over(request.receive)
    return Response(await sale.answer())


@get(["/models", "/v1/models"], opt={"route": Route.ACCOUNT})
async def list_models() -> dict[str, Any]:
    return {"object": "list", "data": [_shown(model) for model in MODELS.values()]}


# A path, not a name: the SDK sends an id with a slash in it as %2F, which arrives as a slash.
@get(["/models/{model_id:path}", "/v1/models/{model_id:path}"], opt={"route": Route.ACCOUNT})
async def show_model(model_id: FromPath[str]) -> dict[str, Any]:
    name = model_id.removeprefix("/")
    if name not in MODELS:
        raise no_such_model(name)
    return _shown(MODELS[name])


def _shown(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": "system"}


HANDLERS = [
    Router(
        path="/",
        route_handlers=[generate, edit, list_models, show_model],
        guards=[know_the_key],
        middleware=[Stamped()],
        exception_handlers={RefusedError: refused},
    )
]
