"""The routes joined into one application, with errors told as each route's callers expect."""

from collections.abc import Callable
from time import perf_counter
from typing import Any
from uuid import uuid4

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import HTTPScope, Message

from gateway.api.asking import answer
from gateway.api.callbacks import callback
from gateway.api.errors import ApiError
from gateway.api.files import file
from gateway.api.images import generations
from gateway.api.jobs import new_job, one_job
from gateway.api.probes import livez, metrics, readyz
from gateway.api.signals import signals
from gateway.events import Emit, RequestAnswered, Trouble, fault_of

OPENAI_ROUTES = ("/v1/images", "/v1/models")
ROUTES = [generations, new_job, one_job, signals, file, callback, livez, readyz, metrics]


class Application(Litestar):
    """Gives each request an id, and tells of its answer: also of those that no route is there for."""

    def __init__(self, emit: Emit, **parts: Any) -> None:
        super().__init__(**parts)
        self._emit = emit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        began, status, name = perf_counter(), [500], f"req_{uuid4().hex}"
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = name

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                headers = {"x-request-id": name, **_overhead(state, perf_counter() - began)}
                ours = [(header.encode(), value.encode()) for header, value in headers.items()]
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        try:
            await super().__call__(scope, receive, sent)
        finally:
            self._emit(_answered(scope, name, status[0], perf_counter() - began))


def application(state: dict[str, Any], emit: Emit, lifespan: list[Any]) -> Litestar:
    return Application(
        emit,
        route_handlers=ROUTES,
        state=State(state),
        lifespan=lifespan,
        exception_handlers={ApiError: _told, HTTPException: _told_by_framework, Exception: _told_of_fault(emit)},
        # Bodies are read and capped by `bodies.py`.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _told(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    is_openai = request.scope["path"].startswith(OPENAI_ROUTES)
    content = error.envelope() if is_openai else error.problem(request.scope["state"].get("request_id"))
    response = answer(content, error.status, error.answer_headers())
    if not is_openai:
        response.media_type = "application/problem+json"
    return response


def _told_by_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    words = {404: "There is no such route.", 405: "This route does not answer to this method."}
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = words.get(error.status_code, "The request is not understood.")
    return _told(request, ApiError(error.status_code, code, message, headers=_allowed(error)))


def _allowed(error: HTTPException) -> dict[str, str]:
    """Whoever uses the wrong method is told the right ones."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return {"allow": headers["allow"]} if "allow" in headers else {}


def _told_of_fault(emit: Emit) -> Callable[[Request[Any, Any, Any], Exception], Response[bytes]]:
    def told(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        emit(Trouble(where="api", what=fault_of(error)))
        message = "Something went wrong here. If a job was accepted, it goes on."
        return _told(request, ApiError(500, "internal_error", message, final=True))

    return told


def _overhead(state: dict[str, Any], seconds: float) -> dict[str, str]:
    """Of what waits for a job: the time that is ours."""
    if "waited" not in state:
        return {}
    return {"x-igw-overhead-ms": str(max(0, round((seconds - state["waited"]) * 1000)))}


def _answered(scope: HTTPScope, name: str, status: int, seconds: float) -> RequestAnswered:
    known: dict[str, Any] = scope.get("state") or {}
    return RequestAnswered(
        id=name,
        method=scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other",
        route=scope.get("path_template") or "unknown",
        status=status,
        seconds=seconds,
        waited=known.get("waited", 0.0),
        team=known.get("team"),
        job=known.get("job"),
    )
