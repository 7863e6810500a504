"""Routes of the simulated Runflow: asynchronous runs, and the synchronous route of its generated pages.

`orders.py` creates a run, `order_simulator.py` works on it, `runs.py` serializes it.
"""

from typing import Any

from litestar import Response, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox.fault_injection import InjectedFault
from sandbox.http_requests import HttpRequest
from sandbox.idempotency import KeyConflictError
from sandbox.order_simulator import ClientDisconnectedError, SimulatedOutcome
from sandbox.runflow import account, assets, runs
from sandbox.runflow.http_helpers import (
    RunflowError,
    build_field_error,
    build_rate_limit_headers,
    get_switches,
    parse_json_object,
    render_error,
    require_api_key,
    validation_error,
)
from sandbox.runflow.orders import RunflowState, split_request
from sandbox.runflow.run_input import MODELS, PROVIDERLESS_MODELS
from sandbox.runflow.run_search import build_page, parse_query
from sandbox.runflow.runs import RunflowRun
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

SUBMIT_OPTIONS, POLL_OPTIONS, SEARCH_OPTIONS = (
    {"route": RouteKind.SUBMIT},
    {"route": RouteKind.POLL},
    {"route": RouteKind.SEARCH},
)


def create_vendor_state(sandbox: SandboxState) -> RunflowState:
    def build_headers(request_headers: Any) -> dict[str, str]:
        return build_rate_limit_headers(request_headers) if sandbox.switches.runflow.rate_limit_headers else {}

    sandbox.header_builders[Vendor.RUNFLOW] = build_headers
    return RunflowState(sandbox)


def get_vendor_state(state: State) -> RunflowState:
    vendor: RunflowState = state.sandbox.vendor_states[Vendor.RUNFLOW]
    return vendor


@post("/v1/models/{path:path}", status_code=201, opt=SUBMIT_OPTIONS)
async def create_run(request: HttpRequest, state: State, path: FromPath[str]) -> Response[bytes]:
    """Creates a run. In `/v1/models/{owner}/{model…}/runs` a model's id may have any number of segments."""
    vendor = get_vendor_state(state)
    model, _, action = path.strip("/").rpartition("/")
    if get_switches(request).providerless_route:
        model = PROVIDERLESS_MODELS.get(model, model)
    if model not in MODELS or action not in ("runs", "batches"):
        raise RunflowError(404, "MODEL_NOT_FOUND" if action == "runs" else None)
    if action == "batches":
        raise RunflowError(422, message="This model cannot be run in batches.")
    body = await request.body()
    key = _get_replay_key(request, vendor)

    async def place_run() -> bytes:
        run = await vendor.place_run(
            model, *split_request(parse_json_object(body)), request.headers.get("idempotency-key")
        )
        response_body = await runs.encode_run(run, is_new=True)
        await _start_callback(vendor, run)
        return response_body

    response_body, _ = await _run_once(vendor, key, path.encode() + body, place_run)
    return Response(response_body, status_code=201, media_type="application/json")


def _get_replay_key(request: HttpRequest, vendor: RunflowState) -> str | None:
    """Returns the idempotency key, or None if a fault rule makes the vendor ignore a repeated one."""
    key = request.headers.get("idempotency-key")
    kinds = (InjectedFault.IGNORE_IDEMPOTENCY_KEY,)
    if (
        key
        and key in vendor.replay_cache
        and vendor.sandbox.fault_injector.take_rule(Vendor.RUNFLOW, RouteKind.SUBMIT, kinds)
    ):
        return None
    return key


async def _run_once(vendor: RunflowState, key: str | None, body: bytes, create: Any) -> tuple[bytes, bool]:
    try:
        return await vendor.replay_cache.run_once(key, body, create)
    except KeyConflictError:
        raise RunflowError(409) from None


async def _start_callback(vendor: RunflowState, run: RunflowRun) -> None:
    if not run.request.get("callback_url"):
        return
    callback = vendor.callbacks.send_callbacks(run)
    if InjectedFault.EARLY_CALLBACK in run.order.fault_rules:
        await callback
    else:
        vendor.sandbox.callback_sender.start_task(callback)


@post("/v1/run/{path:path}", status_code=200, opt=SUBMIT_OPTIONS)
async def run_synchronously(request: HttpRequest, state: State, path: FromPath[str]) -> dict[str, Any]:
    """Runs synchronously. This route appears in generated pages only; its behaviour is unverified."""
    vendor = get_vendor_state(state)
    model = path.strip("/")
    if not get_switches(request).run_route or model not in MODELS:
        raise RunflowError(404)
    body = await request.body()

    async def place_run() -> bytes:
        run = await vendor.place_run(model, parse_json_object(body), {}, request.headers.get("idempotency-key"))
        return run.order.id.encode()

    # A repeated key waits for the first order with it.
    run_id, _ = await _run_once(vendor, _get_replay_key(request, vendor), path.encode() + body, place_run)
    run = vendor.get_run(run_id.decode())
    try:
        await vendor.simulator.wait_for_order(run.order, request.receive)
    except ClientDisconnectedError:
        raise RunflowError(499, "CLIENT_LEFT", "The client disconnected; the run continues.") from None
    if run.order.outcome is SimulatedOutcome.FAILED:
        raise RunflowError(422, *run.order.failure)
    output = await runs.build_output(run) or {"outputs": []}
    return {"images": [{"url": image["url"]} for image in output["outputs"]], **output}


@get("/v1/runs/{run_id:str}", opt=POLL_OPTIONS)
async def get_run(state: State, run_id: FromPath[str]) -> Response[bytes]:
    run = get_vendor_state(state).get_run(run_id)
    return Response(await runs.encode_run(run), media_type="application/json")


@get("/v1/runs", opt=SEARCH_OPTIONS)
async def list_runs(request: HttpRequest, state: State) -> dict[str, Any]:
    vendor = get_vendor_state(state)
    vendor.simulator.settle_finished()
    return build_page(list(vendor.runs.values()), parse_query(request.query_params), get_switches(request).cursors)


@get("/v1/runs/statuses", opt=POLL_OPTIONS)
async def list_statuses(request: HttpRequest) -> dict[str, Any]:
    statuses = ("queued", "dispatching", "running", "succeeded", "failed", get_switches(request).canceled)
    return {"items": [{"code": status} for status in (*statuses, "partial_succeeded")]}


@get("/v1/runs/{run_id:str}/callback", opt=POLL_OPTIONS)
async def list_deliveries(state: State, run_id: FromPath[str]) -> list[dict[str, Any]]:
    return [delivery.to_json() for delivery in get_vendor_state(state).get_run(run_id).deliveries]


@post("/v1/runs/{run_id:str}/callback-redeliveries", status_code=201, opt=POLL_OPTIONS)
async def redeliver_callback(state: State, run_id: FromPath[str]) -> dict[str, Any]:
    vendor = get_vendor_state(state)
    run = vendor.get_run(run_id)
    if not run.request.get("callback_url") or not run.order.is_settled:
        raise RunflowError(422, message="There is no callback to deliver again.")
    return (await vendor.callbacks.redeliver(run)).to_json()


@post("/v1/admin/runs/{run_id:str}/cancellation", opt=POLL_OPTIONS)
async def cancel_run(request: HttpRequest, state: State, run_id: FromPath[str]) -> Response[bytes]:
    """Cancels a run (administrators only). The work continues and is billed; its images are dropped."""
    vendor = get_vendor_state(state)
    run = vendor.get_run(run_id)
    reason = parse_json_object(await request.body() or b"{}").get("reason")
    if reason is not None and not (isinstance(reason, str) and 3 <= len(reason) <= 500):
        raise validation_error(build_field_error("Input should be a string of 3 to 500 characters", "reason"))
    was_finished = run.order.is_settled
    vendor.simulator.cancel_order(run.order)
    return Response(await runs.encode_run(run), status_code=200 if was_finished else 201, media_type="application/json")


HANDLERS = [
    Router(
        path="/",
        route_handlers=[
            create_run,
            run_synchronously,
            get_run,
            list_runs,
            list_statuses,
            list_deliveries,
            redeliver_callback,
            cancel_run,
            *assets.HANDLERS,
            *account.HANDLERS,
        ],
        guards=[require_api_key],
        exception_handlers={RunflowError: render_error},
    ),
    account.get_health,
]
