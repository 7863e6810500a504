"""Routes of the simulated RunAPI: GPT Image 2 as asynchronous tasks. `switches.py` decides open questions."""

from collections.abc import Collection
from typing import Any

from litestar import Response, Router, get, post, route
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from sandbox.http_requests import HttpRequest
from sandbox.runapi import account, uploads
from sandbox.runapi.callbacks import CALLBACK_SECRET
from sandbox.runapi.http_helpers import (
    RunapiError,
    build_response_headers,
    get_short_header,
    parse_json_object,
    render_error,
    require_api_key,
)
from sandbox.runapi.order_rules import TaskAction
from sandbox.runapi.orders import CreateTaskCommand, get_or_create_task
from sandbox.runapi.tasks import InjectedState, RunapiState, RunapiTask, serialize_task, serialize_ticket
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

__all__ = ["CALLBACK_SECRET", "HANDLERS", "create_vendor_state"]

TASKS_PATH = "/api/v1/gpt_image_2"
RESULTS_PATH = "/api/v1/tasks"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def create_vendor_state(sandbox: SandboxState) -> RunapiState:
    sandbox.header_builders[Vendor.RUNAPI] = build_response_headers
    return RunapiState(sandbox)


async def get_vendor_state(state: State) -> RunapiState:
    vendor: RunapiState = state.sandbox.vendor_states[Vendor.RUNAPI]
    return vendor


async def parse_action(request: HttpRequest) -> TaskAction:
    """Returns the action in the path: a task can only be read under the action that created it."""
    return TaskAction(request.url.path.partition(f"{TASKS_PATH}/")[2].partition("/")[0])


@post(
    [f"{TASKS_PATH}/{action}" for action in TaskAction],
    opt={"route": RouteKind.SUBMIT},
    guards=[require_api_key],
)
async def create_task(
    request: HttpRequest, vendor: InjectedState, action: NamedDependency[TaskAction]
) -> Response[dict[str, Any]]:
    command = CreateTaskCommand(
        action=action,
        fields=parse_json_object(body := await request.body()),
        body=body,
        idempotency_key=get_short_header(request, "Idempotency-Key"),
        client_reference=get_short_header(request, "X-Client-Request-Id"),
    )
    return _created_response(vendor, *await get_or_create_task(vendor, command))


def _created_response(vendor: RunapiState, task: RunapiTask, is_replay: bool) -> Response[dict[str, Any]]:
    body = serialize_ticket(vendor, task, task.first_status)
    if is_replay:
        current = serialize_task(vendor, task)
        body = current if vendor.switches.replay_answer == "task" else serialize_ticket(vendor, task, current["status"])
        body["task_replayed"] = True
    headers = {"x-runapi-task-id": task.order.id}
    if vendor.switches.create_code == 202:
        headers["location"] = f"{vendor.sandbox.base_url}/{Vendor.RUNAPI}{RESULTS_PATH}/{task.order.id}"
    return Response(body, status_code=vendor.switches.create_code, headers=headers)


@get(
    [f"{TASKS_PATH}/{action}/{{task_id:str}}" for action in TaskAction],
    opt={"route": RouteKind.POLL},
    guards=[require_api_key],
)
async def poll_task(
    vendor: InjectedState, action: NamedDependency[TaskAction], task_id: FromPath[str]
) -> Response[dict[str, Any]]:
    task = vendor.get_task(task_id)
    if task is None or task.action is not action:
        raise RunapiError(404)
    return _task_response(vendor, task, serialize_task(vendor, task))


@get(f"{RESULTS_PATH}/{{task_id:str}}", opt={"route": RouteKind.POLL}, guards=[require_api_key])
async def get_result(vendor: InjectedState, task_id: FromPath[str]) -> Response[dict[str, Any]]:
    """Returns the result behind a 202's Location: the response that a synchronous call would have had."""
    task = vendor.get_task(task_id)
    if task is None or vendor.switches.create_code != 202:
        raise RunapiError(404)
    body = serialize_task(vendor, task)
    stored_result = {"id": body["id"], "status": body["status"]}
    if body["status"] == "completed":
        stored_result["response"] = {"status": 200, "content_type": "application/json", "headers": {}, "body": body}
    elif body["status"] == "failed":
        stored_result["error"] = body["error"]
    return _task_response(vendor, task, stored_result)


def _task_response(vendor: RunapiState, task: RunapiTask, body: dict[str, Any]) -> Response[dict[str, Any]]:
    headers = {"x-runapi-task-id": task.order.id}
    retry_after = vendor.switches.poll_retry_after
    if retry_after is not None and body["status"] not in ("completed", "failed"):
        headers["retry-after"] = f"{retry_after:g}"
    return Response(body, headers=headers)


def _make_not_found_handler(path: str, known_methods: Collection[str]) -> HTTPRouteHandler:
    """Makes a handler that answers 404 for other methods on a known path: the vendor never answers 405."""

    @route(path, http_method=[HttpMethod(method) for method in METHODS if method not in known_methods])
    async def reject_method() -> None:
        raise RunapiError(404)

    return reject_method


ROUTES: list[HTTPRouteHandler] = [create_task, poll_task, get_result, *uploads.HANDLERS, *account.HANDLERS]
HANDLERS = [
    Router(
        path="/",
        route_handlers=[
            *ROUTES,
            *(_make_not_found_handler(path, handler.http_methods) for handler in ROUTES for path in handler.paths),
        ],
        dependencies={"vendor": Provide(get_vendor_state), "action": Provide(parse_action)},
        exception_handlers={RunapiError: render_error},
    )
]
