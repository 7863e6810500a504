"""A request over HTTP, read into our words, and answers written into HTTP's."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Generic

import msgspec
from litestar import Request as Http
from litestar import Response
from msgspec import Struct

from gateway.api import counter
from gateway.api.bodies import converted, json_of, read_body
from gateway.api.body_thread import run_off_loop
from gateway.api.callers import team_of
from gateway.api.counter import Request, Taken, Tools
from gateway.api.errors import ApiError
from gateway.api.failures import failure_error
from gateway.api.interruption import placing_order, record_job
from gateway.api.normalization import NormalizedFields, normalize_fields
from gateway.api.presence import Presence
from gateway.api.shown import headers_of
from gateway.api.wishes import W, fingerprint, requested_params
from gateway.catalogue import Catalogue
from gateway.engine.records import RequestedParams
from gateway.jobs.job import Job
from providers.orders import Operation

Asked = Http[Any, Any, Any]
LONGEST_WAIT = 300.0
_PREFER = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def tools_of(http: Asked) -> Tools:
    tools: Tools = http.app.state["tools"]
    return tools


def caller(http: Asked) -> str:
    """Who asks; remembered for whoever counts requests."""
    team = team_of(tools_of(http).catalogue(), http.headers)
    http.state["team"] = team
    return team


async def asked(http: Asked, wanted: type[W]) -> tuple[Request, W]:
    """Only for those who may ask: nobody else's body is read."""
    team = caller(http)
    if http.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ApiError(415, "unsupported_encoding", "Send the body as it is, without a Content-Encoding.")
    body = await read_body(http.stream(), http.headers.get("content-length"), wanted.most_bytes)
    catalogue = tools_of(http).catalogue()
    read = await run_off_loop(len(body), _read, http, body, catalogue, wanted)
    wishes = read.wishes
    presence = Presence(tools_of(http).store.owner, http.scope["state"].get("line"))
    http.state["presence"] = presence
    retries = http.headers.get("x-stainless-retry-count", "0")
    request = Request(
        team=team,
        wishes=wishes,
        warnings=read.fields.warnings + wishes.warnings,
        is_dalle=read.fields.is_dalle,
        requested=read.requested,
        operation=getattr(wishes, "operation", Operation.GENERATE),
        fingerprint=read.fingerprint,
        key=_key(http.headers.get("idempotency-key")),
        is_sdk="x-stainless-retry-count" in http.headers,
        retry=int(retries[:3]) if retries.isascii() and retries.isdigit() else 0,
        presence=presence,
    )
    return request, wishes


class _ReadBody(Struct, Generic[W], frozen=True):
    """`fingerprint`: by what the same request is known again."""

    wishes: W
    fields: NormalizedFields
    requested: RequestedParams
    fingerprint: str


def _read(http: Asked, body: bytes, catalogue: Catalogue, wanted: type[W]) -> _ReadBody[W]:
    fields = json_of(body, http.headers.get("content-type", ""))
    if deployment := http.path_params.get("deployment"):
        # Azure's path names the model; what its clients send as `model` beside it may be empty.
        fields["model"] = deployment
    normalized = normalize_fields(fields, catalogue)
    return _ReadBody(
        wishes=converted(normalized.values, wanted),
        fields=normalized,
        requested=requested_params(fields),
        fingerprint=fingerprint(http.scope["path"], body),
    )


def _key(given: str | None) -> str | None:
    if given is not None and not _KEY.fullmatch(given):
        raise ApiError(400, "invalid_idempotency_key", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return given


async def take_once(http: Asked, wanted: Request, earlier: Taken | None = None) -> Taken:
    """Returns the job that the request becomes, or became before; every later answer to the request names it."""
    state = http.scope["state"]
    with placing_order(state, wanted.is_findable):
        taken = earlier or await counter.take(tools_of(http), wanted)
    record_job(state, taken.job)
    return taken


async def waited(http: Asked, name: str, seconds: float) -> Job:
    """The caller's job, when its team need wait no longer, or after so many seconds."""
    tools, team = tools_of(http), caller(http)
    # Many may wait, and for long: none of them has kept what he sent.
    http.state["receiving"].let_go()
    began = tools.now()
    waiting = counter.job_of(tools, team, name, seconds)
    job = await (_unless_left(http, waiting) if seconds > 0 else waiting)
    http.state["waited"] = tools.now() - began
    # Only now is it known to be a job: an address may contain anything.
    http.state["job"] = job.id
    return job


async def confirm_job(http: Asked, job: Job) -> Job:
    """Makes sure that the job is bought even if this process ends; then it may be promised to the client. ApiError if
    another replica has withdrawn it before."""
    if not (job.state.is_terminal or job.is_confirmed):
        job = await _unless_left(http, counter.wait_for_confirmation(tools_of(http), job.id))
    if job.withdrawn:
        raise failure_error(job, headers_of(job))
    return job


async def _unless_left(http: Asked, waiting: Coroutine[Any, Any, Job]) -> Job:
    """Nobody waits on behalf of somebody who has hung up; the job itself goes on."""
    asking, leaving = asyncio.create_task(waiting), asyncio.create_task(_left(http))
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ApiError(499, "client_left", "The caller hung up.")
        return asking.result()
    finally:
        asking.cancel()
        leaving.cancel()


async def _left(http: Asked) -> None:
    """The body has been read, so nothing else comes."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def preferred_wait(prefer: str | None) -> float | None:
    """`Prefer: wait=N`; what else may stand there is not ours."""
    found = _PREFER.search(prefer or "")
    return min(float(found[1]), LONGEST_WAIT) if found else None


def wait_of(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, "invalid_value", "wait is a number of seconds.", param="wait")
    return min(float(text[:9]), LONGEST_WAIT)


def replayed(was: bool) -> dict[str, str]:
    return {"idempotent-replayed": "true"} if was else {}


def mark_answered(http: Asked) -> None:
    """Notes that this answer completes the request."""
    http.state["presence"].is_answered = True


def answer(content: Any, status: int, headers: dict[str, str]) -> Response[bytes]:
    """It may hold signed links, which no cache between us and the client should keep."""
    headers = {"cache-control": "no-store", **headers}
    return Response(msgspec.json.encode(content), media_type="application/json", status_code=status, headers=headers)
