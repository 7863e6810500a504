"""RunAPI, simulated: GPT Image 2 as asynchronous tasks. What the page leaves open is decided in `switches.py`."""

from collections.abc import Collection
from typing import Any

from litestar import Response, Router, get, post, route
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from sandbox import runapi_account, runapi_files
from sandbox.mischief import Route, Vendor
from sandbox.runapi_callbacks import CALLBACK_SECRET
from sandbox.runapi_orders import Asked, buy
from sandbox.runapi_tasks import OwnState, RunapiState, Task, envelope, ticket
from sandbox.runapi_terms import Action
from sandbox.runapi_wire import HttpRequest, RefusalError, fields, letterhead, refused, short_header, signed_in
from sandbox.world import World

__all__ = ["CALLBACK_SECRET", "HANDLERS", "open_shop"]

TASKS = "/api/v1/gpt_image_2"
RESULTS = "/api/v1/tasks"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def open_shop(world: World) -> RunapiState:
    world.letterheads[Vendor.RUNAPI] = letterhead
    return RunapiState(world)


async def opened(state: State) -> RunapiState:
    vendor: RunapiState = state.world.vendors[Vendor.RUNAPI]
    return vendor


async def addressed(request: HttpRequest) -> Action:
    """The action in the path: a task is read where it was created and nowhere else."""
    return Action(request.url.path.partition(f"{TASKS}/")[2].partition("/")[0])


@post(
    [f"{TASKS}/{action}" for action in Action],
    opt={"route": Route.SUBMIT},
    guards=[signed_in],
    dependencies={"action": Provide(addressed)},
)
async def create(request: HttpRequest, vendor: OwnState, action: NamedDependency[Action]) -> Response[dict[str, Any]]:
    asked = Asked(
        action=action,
        fields=fields(body := await request.body()),
        body=body,
        key=short_header(request, "Idempotency-Key"),
        reference=short_header(request, "X-Client-Request-Id"),
    )
    return _created(vendor, *await buy(vendor, asked))


def _created(vendor: RunapiState, task: Task, replayed: bool) -> Response[dict[str, Any]]:
    body = ticket(vendor, task, task.first_status)
    if replayed:
        now_shown = envelope(vendor, task)
        body = now_shown if vendor.switches.replay_answer == "task" else ticket(vendor, task, now_shown["status"])
        body["task_replayed"] = True
    headers = {"x-runapi-task-id": task.order.id}
    if vendor.switches.create_code == 202:
        headers["location"] = f"{vendor.world.base_url}/{Vendor.RUNAPI}{RESULTS}/{task.order.id}"
    return Response(body, status_code=vendor.switches.create_code, headers=headers)


@get(
    [f"{TASKS}/{action}/{{task_id:str}}" for action in Action],
    opt={"route": Route.POLL},
    guards=[signed_in],
    dependencies={"action": Provide(addressed)},
)
async def poll(vendor: OwnState, action: NamedDependency[Action], task_id: FromPath[str]) -> Response[dict[str, Any]]:
    task = vendor.task(task_id)
    if task is None or task.action is not action:
        raise RefusalError(404)
    return _shown(vendor, task, envelope(vendor, task))


@get(f"{RESULTS}/{{task_id:str}}", opt={"route": Route.POLL}, guards=[signed_in])
async def result(vendor: OwnState, task_id: FromPath[str]) -> Response[dict[str, Any]]:
    """Where a 202's Location leads: the answer that a synchronous call would have given, kept for later."""
    task = vendor.task(task_id)
    if task is None or vendor.switches.create_code != 202:
        raise RefusalError(404)
    body = envelope(vendor, task)
    kept = {"id": body["id"], "status": body["status"]}
    if body["status"] == "completed":
        kept["response"] = {"status": 200, "content_type": "application/json", "headers": {}, "body": body}
    elif body["status"] == "failed":
        kept["error"] = body["error"]
    return _shown(vendor, task, kept)


def _shown(vendor: RunapiState, task: Task, body: dict[str, Any]) -> Response[dict[str, Any]]:
    headers = {"x-runapi-task-id": task.order.id}
    pause = vendor.switches.poll_retry_after
    if pause is not None and body["status"] not in ("completed", "failed"):
        headers["retry-after"] = f"{pause:g}"
    return Response(body, headers=headers)


def _nowhere(path: str, taken: Collection[str]) -> HTTPRouteHandler:
    """The vendor knows no 405: another method on a known path is as unknown as any other path."""

    @route(path, http_method=[HttpMethod(method) for method in METHODS if method not in taken])
    async def nowhere() -> None:
        raise RefusalError(404)

    return nowhere


ROUTES: list[HTTPRouteHandler] = [create, poll, result, *runapi_files.HANDLERS, *runapi_account.HANDLERS]
HANDLERS = [
    Router(
        path="/",
        route_handlers=[
            *ROUTES,
            *(_nowhere(path, handler.http_methods) for handler in ROUTES for path in handler.paths),
        ],
        dependencies={"vendor": Provide(opened)},
        exception_handlers={RefusalError: refused},
    )
]
