"""Runflow: runs that are ordered and asked for, and the synchronous route of its generated pages.

`shop.py` works on a run, `runflow_orders.py` takes it, `runflow_runs.py` shows it.
"""

from typing import Any

from litestar import Response, Router, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox import runflow_account, runflow_assets, runflow_runs
from sandbox.idempotency import KeyConflictError
from sandbox.mischief import Kind, Route, Vendor
from sandbox.runflow_input import MODELS, PROVIDERLESS
from sandbox.runflow_orders import Runflow, parts
from sandbox.runflow_runs import Run
from sandbox.runflow_search import page, parse
from sandbox.runflow_wire import (
    HttpRequest,
    RefusalError,
    field_error,
    fields,
    invalid,
    rate_limit_headers,
    refused,
    signed_in,
    switches_of,
)
from sandbox.shop import ClientLeftError, Outcome
from sandbox.world import World

SUBMIT, POLL, FIND = {"route": Route.SUBMIT}, {"route": Route.POLL}, {"route": Route.FIND}


def open_shop(world: World) -> Runflow:
    def letterhead(asked: Any) -> dict[str, str]:
        return rate_limit_headers(asked) if world.switches.runflow.rate_limit_headers else {}

    world.letterheads[Vendor.RUNFLOW] = letterhead
    return Runflow(world)


def runflow(state: State) -> Runflow:
    vendor: Runflow = state.world.vendors[Vendor.RUNFLOW]
    return vendor


@post("/v1/models/{path:path}", status_code=201, opt=SUBMIT)
async def create_run(request: HttpRequest, state: State, path: FromPath[str]) -> Response[bytes]:
    """`/v1/models/{owner}/{model…}/runs`: a model's id has as many segments as it likes."""
    vendor = runflow(state)
    model, _, action = path.strip("/").rpartition("/")
    if switches_of(request).providerless_route:
        model = PROVIDERLESS.get(model, model)
    if model not in MODELS or action not in ("runs", "batches"):
        raise RefusalError(404, "MODEL_NOT_FOUND" if action == "runs" else None)
    if action == "batches":
        raise RefusalError(422, message="This model cannot be run in batches.")
    body = await request.body()
    key = _replay_key(request, vendor)

    async def make() -> bytes:
        run = await vendor.place(model, *parts(fields(body)), request.headers.get("idempotency-key"))
        answer = await runflow_runs.body(run, newly_created=True)
        await _call_back(vendor, run)
        return answer

    answer, _ = await _once(vendor, key, path.encode() + body, make)
    return Response(answer, status_code=201, media_type="application/json")


def _replay_key(request: HttpRequest, vendor: Runflow) -> str | None:
    """The key, unless mischief has the vendor overlook that it came before."""
    key = request.headers.get("idempotency-key")
    kinds = (Kind.IGNORE_IDEMPOTENCY_KEY,)
    if key and key in vendor.replays and vendor.world.mischief.take(Vendor.RUNFLOW, Route.SUBMIT, kinds):
        return None
    return key


async def _once(vendor: Runflow, key: str | None, body: bytes, make: Any) -> tuple[bytes, bool]:
    try:
        return await vendor.replays.once(key, body, make)
    except KeyConflictError:
        raise RefusalError(409) from None


async def _call_back(vendor: Runflow, run: Run) -> None:
    if not run.request.get("callback_url"):
        return
    calling = vendor.caller.call(run)
    if Kind.EARLY_CALLBACK in run.order.mischief:
        await calling
    else:
        vendor.world.callbacks.spawn(calling)


@post("/v1/run/{path:path}", status_code=200, opt=SUBMIT)
async def run_at_once(request: HttpRequest, state: State, path: FromPath[str]) -> dict[str, Any]:
    """The flat, synchronous route of the generated pages. Nobody is known to use it: unverified."""
    vendor = runflow(state)
    model = path.strip("/")
    if not switches_of(request).run_route or model not in MODELS:
        raise RefusalError(404)
    body = await request.body()

    async def make() -> bytes:
        run = await vendor.place(model, fields(body), {}, request.headers.get("idempotency-key"))
        return run.order.id.encode()

    # Whoever repeats a key while the first order is under way waits for that one.
    run_id, _ = await _once(vendor, _replay_key(request, vendor), path.encode() + body, make)
    run = vendor.run(run_id.decode())
    try:
        await vendor.shop.wait(run.order, request.receive)
    except ClientLeftError:
        raise RefusalError(499, "CLIENT_LEFT", "The client left; the run goes on.") from None
    if run.order.outcome is Outcome.FAILED:
        raise RefusalError(422, *run.order.reason)
    output = await runflow_runs.output(run) or {"outputs": []}
    return {"images": [{"url": one["url"]} for one in output["outputs"]], **output}


@get("/v1/runs/{run_id:str}", opt=POLL)
async def get_run(state: State, run_id: FromPath[str]) -> Response[bytes]:
    run = runflow(state).run(run_id)
    return Response(await runflow_runs.body(run), media_type="application/json")


@get("/v1/runs", opt=FIND)
async def list_runs(request: HttpRequest, state: State) -> dict[str, Any]:
    vendor = runflow(state)
    vendor.shop.settle()
    return page(list(vendor.runs.values()), parse(request.query_params), switches_of(request).cursors)


@get("/v1/runs/statuses", opt=POLL)
async def list_statuses(request: HttpRequest) -> dict[str, Any]:
    words = ("queued", "dispatching", "running", "succeeded", "failed", switches_of(request).canceled)
    return {"items": [{"code": word} for word in (*words, "partial_succeeded")]}


@get("/v1/runs/{run_id:str}/callback", opt=POLL)
async def list_deliveries(state: State, run_id: FromPath[str]) -> list[dict[str, Any]]:
    return [delivery.record() for delivery in runflow(state).run(run_id).deliveries]


@post("/v1/runs/{run_id:str}/callback-redeliveries", status_code=201, opt=POLL)
async def redeliver(state: State, run_id: FromPath[str]) -> dict[str, Any]:
    vendor = runflow(state)
    run = vendor.run(run_id)
    if not run.request.get("callback_url") or not run.order.settled:
        raise RefusalError(422, message="There is no callback to deliver again.")
    return (await vendor.caller.redeliver(run)).record()


@post("/v1/admin/runs/{run_id:str}/cancellation", opt=POLL)
async def cancel_run(request: HttpRequest, state: State, run_id: FromPath[str]) -> Response[bytes]:
    """For administrators only; the work goes on at the provider and is billed, its pictures are dropped."""
    vendor = runflow(state)
    run = vendor.run(run_id)
    reason = fields(await request.body() or b"{}").get("reason")
    if reason is not None and not (isinstance(reason, str) and 3 <= len(reason) <= 500):
        raise invalid(field_error("Input should be a string of 3 to 500 characters", "reason"))
    was_over = run.order.settled
    vendor.shop.cancel(run.order)
    return Response(await runflow_runs.body(run), status_code=200 if was_over else 201, media_type="application/json")


HANDLERS = [
    Router(
        path="/",
        route_handlers=[
            create_run,
            run_at_once,
            get_run,
            list_runs,
            list_statuses,
            list_deliveries,
            redeliver,
            cancel_run,
            *runflow_assets.HANDLERS,
            *runflow_account.HANDLERS,
        ],
        guards=[signed_in],
        exception_handlers={RefusalError: refused},
    ),
    runflow_account.health,
]
