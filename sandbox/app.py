"""The ASGI application: vendors, stored files and control routes."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from litestar import Litestar, Request, Response, Router, get
from litestar.datastructures import Headers, MutableScopeHeaders, State
from litestar.exceptions import HTTPException, InternalServerException
from litestar.types import HTTPScope, Message, Scope

from sandbox import file_store
from sandbox.control import control_router
from sandbox.fault_middleware import FaultMiddleware
from sandbox.openai import routes as openai_routes
from sandbox.runapi import routes as runapi_routes
from sandbox.runflow import routes as runflow_routes
from sandbox.state import SandboxState
from sandbox.vendors import Vendor

LOG = logging.getLogger("uvicorn.error")
VENDOR_MODULES = {Vendor.RUNFLOW: runflow_routes, Vendor.RUNAPI: runapi_routes, Vendor.OPENAI: openai_routes}


@get("/")
async def index(state: State) -> dict[str, Any]:
    sandbox: SandboxState = state.sandbox
    return {
        "what": "simulated image vendors: nothing here costs money",
        "vendors": {vendor: f"{sandbox.base_url}/{vendor}" for vendor in VENDOR_MODULES},
        "keys": {"runflow": "rf_sandbox", "runapi": "sk-sandbox", "openai": "sk-sandbox"},
        "control": f"{sandbox.base_url}/_/",
    }


def handle_http_exception(request: Request[Any, Any, State], error: HTTPException) -> Response[Any]:
    """Renders the framework's own errors in the format of the vendor that was called."""
    sandbox: SandboxState = request.app.state.sandbox
    vendor = request.url.path.split("/")[1]
    if vendor in set(Vendor):
        if "route_handler" not in request.scope:
            # Unknown URLs are logged too: they are the usual mistake of a new client.
            sandbox.request_log.add_request(cast(HTTPScope, request.scope), Vendor(vendor))
        body = sandbox.vendor_states[Vendor(vendor)].build_error_body(error.status_code)
    else:
        body = {"error": error.detail, "status": error.status_code}
        if error.extra:
            body["problems"] = error.extra
    return Response(body, status_code=error.status_code, headers=error.headers)


def handle_unexpected_error(request: Request[Any, Any, State], error: Exception) -> Response[Any]:
    """Answers 500 in the vendor's format for an internal error of the sandbox, and logs it."""
    LOG.error("internal error of the sandbox at %s", request.url.path, exc_info=error)
    return handle_http_exception(request, InternalServerException())


async def add_vendor_headers(message: Message, scope: Scope) -> None:
    """Adds the headers that a vendor puts on all its responses, also on unknown routes and injected faults."""
    if message["type"] != "http.response.start":
        return
    sandbox: SandboxState = scope["litestar_app"].state.sandbox
    vendor = scope["path"].split("/")[1]
    if vendor in set(Vendor) and (build_headers := sandbox.header_builders.get(Vendor(vendor))):
        headers = MutableScopeHeaders.from_message(message)
        for name, value in build_headers(Headers.from_scope(scope)).items():
            headers.setdefault(name, value)


def create_app(sandbox: SandboxState) -> Litestar:
    for vendor, module in VENDOR_MODULES.items():
        sandbox.vendor_factories[vendor] = module.create_vendor_state
    sandbox.reset()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        yield
        await sandbox.callback_sender.aclose()
        await sandbox.source_fetcher.aclose()

    return Litestar(
        route_handlers=[
            index,
            control_router,
            Router(path="/files", route_handlers=file_store.HANDLERS),
            *(
                Router(path=f"/{vendor}", route_handlers=module.HANDLERS, opt={"vendor": vendor})
                for vendor, module in VENDOR_MODULES.items()
            ),
        ],
        middleware=[FaultMiddleware()],
        before_send=[add_vendor_headers],
        exception_handlers={HTTPException: handle_http_exception, Exception: handle_unexpected_error},
        lifespan=[lifespan],
        state=State({"sandbox": sandbox}, deep_copy=False),
        openapi_config=None,
        logging_config=None,
        request_max_body_size=80 << 20,
    )
