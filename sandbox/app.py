"""Joins the vendors, the stored files and the control routes into one application."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import Headers, MutableScopeHeaders, State
from litestar.exceptions import HTTPException, InternalServerException
from litestar.types import HTTPScope, Message, Scope

from sandbox import files, openai, runapi, runflow
from sandbox.control import control
from sandbox.interference import Interference
from sandbox.mischief import Vendor
from sandbox.world import World

LOG = logging.getLogger("uvicorn.error")
VENDORS = {Vendor.RUNFLOW: runflow, Vendor.RUNAPI: runapi, Vendor.OPENAI: openai}


@get("/")
async def index(state: State) -> dict[str, Any]:
    world: World = state.world
    return {
        "what": "image vendors, simulated: nothing here costs money",
        "vendors": {vendor: f"{world.base_url}/{vendor}" for vendor in VENDORS},
        "keys": {"runflow": "rf_sandbox", "runapi": "sk-sandbox", "openai": "sk-sandbox"},
        "control": f"{world.base_url}/_/",
    }


def not_there(request: Request[Any, Any, State], error: HTTPException) -> Response[Any]:
    """Errors of the framework itself, in the words of whichever vendor was addressed."""
    world: World = request.app.state.world
    vendor = request.url.path.split("/")[1]
    if vendor in set(Vendor):
        if "route_handler" not in request.scope:
            # A wrong address, which is what somebody who looks into the log is most likely to have used.
            world.requests.note(cast(HTTPScope, request.scope), Vendor(vendor))
        body = world.vendors[Vendor(vendor)].error(error.status_code)
    else:
        body = {"error": error.detail, "status": error.status_code}
        if error.extra:
            body["problems"] = error.extra
    return Response(body, status_code=error.status_code, headers=error.headers)


def broken(request: Request[Any, Any, State], error: Exception) -> Response[Any]:
    """A mistake of the sandbox itself: its vendors answer 500 as ever, and the log says what it was."""
    LOG.error("the sandbox itself failed at %s", request.url.path, exc_info=error)
    return not_there(request, InternalServerException())


async def put_letterhead(message: Message, scope: Scope) -> None:
    """What a vendor writes on all its answers, on those to unknown routes and on staged refusals too."""
    if message["type"] != "http.response.start":
        return
    world: World = scope["litestar_app"].state.world
    vendor = scope["path"].split("/")[1]
    if vendor in set(Vendor) and (letterhead := world.letterheads.get(Vendor(vendor))):
        headers = MutableScopeHeaders.from_message(message)
        for name, value in letterhead(Headers.from_scope(scope)).items():
            headers.setdefault(name, value)


def create_app(world: World) -> Litestar:
    for vendor, module in VENDORS.items():
        world.openers[vendor] = module.open_shop
    world.open()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        yield
        await world.callbacks.aclose()
        await world.sources.aclose()

    return Litestar(
        route_handlers=[
            index,
            control,
            Router(path="/files", route_handlers=files.HANDLERS),
            *(
                Router(path=f"/{vendor}", route_handlers=module.HANDLERS, opt={"vendor": vendor})
                for vendor, module in VENDORS.items()
            ),
        ],
        middleware=[Interference()],
        before_send=[put_letterhead],
        exception_handlers={HTTPException: not_there, Exception: broken},
        lifespan=[lifespan],
        state=State({"world": world}, deep_copy=False),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=80 << 20,
    )
