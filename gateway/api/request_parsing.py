"""A request over HTTP, read into our words, and answers written into HTTP's."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Generic

import msgspec
from litestar import Request as Http
from litestar import Response
from msgspec import Struct

from gateway.api import job_submission
from gateway.api.api_errors import ApiError
from gateway.api.auth import authenticate
from gateway.api.body_parser_thread import run_off_loop
from gateway.api.client_presence import ClientPresence
from gateway.api.failure_responses import build_failure_error
from gateway.api.job_submission import ApiContext, JobRequest, SubmittedJob
from gateway.api.param_normalization import NormalizedFields, normalize_fields
from gateway.api.request_body import parse_json_object, read_body, to_struct
from gateway.api.request_schemas import ParamsT, collect_requested_params, compute_fingerprint
from gateway.api.serializers import build_job_headers
from gateway.api.server_errors import record_created_job, track_job_creation
from gateway.catalogue import Catalogue
from gateway.engine.documents import RequestedParams
from gateway.jobs.job import Job
from providers.orders import Operation

HttpRequest = Http[Any, Any, Any]
MAX_WAIT_SECONDS = 300.0
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def get_context(http_request: HttpRequest) -> ApiContext:
    context: ApiContext = http_request.app.state["context"]
    return context


def authenticate_request(http_request: HttpRequest) -> str:
    """Who asks; remembered for whoever counts requests."""
    team = authenticate(get_context(http_request).catalogue(), http_request.headers)
    http_request.state["team"] = team
    return team


async def parse_request(http_request: HttpRequest, body_type: type[ParamsT]) -> tuple[JobRequest, ParamsT]:
    """Only for those who may ask: nobody else's body is read."""
    team = authenticate_request(http_request)
    if http_request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise ApiError(415, "unsupported_encoding", "Send the body as it is, without a Content-Encoding.")
    body = await read_body(http_request.stream(), http_request.headers.get("content-length"), body_type.max_body_bytes)
    catalogue = get_context(http_request).catalogue()
    parsed = await run_off_loop(len(body), _parse_body, http_request, body, catalogue, body_type)
    params = parsed.params
    presence = ClientPresence(get_context(http_request).store.replica_id, http_request.scope["state"].get("line"))
    http_request.state["presence"] = presence
    retry_header = http_request.headers.get("x-stainless-retry-count", "0")
    job_request = JobRequest(
        team=team,
        params=params,
        warnings=parsed.fields.warnings + params.warnings,
        is_dalle_client=parsed.fields.is_dalle_client,
        requested_params=parsed.requested_params,
        operation=getattr(params, "operation", Operation.GENERATE),
        fingerprint=parsed.fingerprint,
        idempotency_key=_validate_idempotency_key(http_request.headers.get("idempotency-key")),
        reports_retries="x-stainless-retry-count" in http_request.headers,
        retry_count=int(retry_header[:3]) if retry_header.isascii() and retry_header.isdigit() else 0,
        presence=presence,
    )
    return job_request, params


class _ParsedBody(Struct, Generic[ParamsT], frozen=True):
    """`fingerprint`: by what the same request is known again."""

    params: ParamsT
    fields: NormalizedFields
    requested_params: RequestedParams
    fingerprint: str


def _parse_body(
    http_request: HttpRequest, body: bytes, catalogue: Catalogue, body_type: type[ParamsT]
) -> _ParsedBody[ParamsT]:
    fields = parse_json_object(body, http_request.headers.get("content-type", ""))
    if deployment := http_request.path_params.get("deployment"):
        # Azure's path names the model; what its clients send as `model` beside it may be empty.
        fields["model"] = deployment
    normalized = normalize_fields(fields, catalogue)
    return _ParsedBody(
        params=to_struct(normalized.values, body_type),
        fields=normalized,
        requested_params=collect_requested_params(fields),
        fingerprint=compute_fingerprint(http_request.scope["path"], body),
    )


def _validate_idempotency_key(key: str | None) -> str | None:
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise ApiError(400, "invalid_idempotency_key", "An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return key


async def submit_or_reuse_job(
    http_request: HttpRequest, job_request: JobRequest, existing: SubmittedJob | None = None
) -> SubmittedJob:
    """Returns the job that the request becomes, or became before; every later answer to the request names it."""
    state = http_request.scope["state"]
    with track_job_creation(state, job_request.is_idempotent):
        submitted = existing or await job_submission.submit_job(get_context(http_request), job_request)
    record_created_job(state, submitted.job_id)
    return submitted


async def wait_for_job(http_request: HttpRequest, job_id: str, timeout_seconds: float) -> Job:
    """The caller's job, when its team need wait no longer, or after so many seconds."""
    context, team = get_context(http_request), authenticate_request(http_request)
    # Many may wait, and for long: none of them has kept what he sent.
    http_request.state["body_receiver"].release()
    started_at = context.wall_clock()
    job_coroutine = job_submission.get_team_job(context, team, job_id, timeout_seconds)
    job = await (_cancel_on_disconnect(http_request, job_coroutine) if timeout_seconds > 0 else job_coroutine)
    http_request.state["waited_seconds"] = context.wall_clock() - started_at
    # Only now is it known to be a job: an address may contain anything.
    http_request.state["job"] = job.id
    return job


async def confirm_job(http_request: HttpRequest, job: Job) -> Job:
    """Makes sure that the job is bought even if this process ends; then it may be promised to the client. ApiError if
    another replica has withdrawn it before."""
    if not (job.state.is_terminal or job.is_confirmed):
        job = await _cancel_on_disconnect(
            http_request, job_submission.wait_for_confirmation(get_context(http_request), job.id)
        )
    if job.withdrawn:
        raise build_failure_error(job, build_job_headers(job))
    return job


async def _cancel_on_disconnect(http_request: HttpRequest, job_coroutine: Coroutine[Any, Any, Job]) -> Job:
    """Nobody waits on behalf of somebody who has hung up; the job itself goes on."""
    job_task, disconnect_task = (
        asyncio.create_task(job_coroutine),
        asyncio.create_task(_wait_for_disconnect(http_request)),
    )
    try:
        await asyncio.wait((job_task, disconnect_task), return_when=asyncio.FIRST_COMPLETED)
        if not job_task.done():
            raise ApiError(499, "client_left", "The caller hung up.")
        return job_task.result()
    finally:
        job_task.cancel()
        disconnect_task.cancel()


async def _wait_for_disconnect(http_request: HttpRequest) -> None:
    """The body has been read, so nothing else comes."""
    while (await http_request.receive())["type"] != "http.disconnect":
        pass


def parse_prefer_wait(header: str | None) -> float | None:
    """`Prefer: wait=N`; what else may stand there is not ours."""
    match = _PREFER_WAIT.search(header or "")
    return min(float(match[1]), MAX_WAIT_SECONDS) if match else None


def parse_wait_param(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, "invalid_value", "wait is a number of seconds.", param="wait")
    return min(float(text[:9]), MAX_WAIT_SECONDS)


def build_replay_headers(is_replayed: bool) -> dict[str, str]:
    return {"idempotent-replayed": "true"} if is_replayed else {}


def mark_answered(http_request: HttpRequest) -> None:
    """Notes that this answer completes the request."""
    http_request.state["presence"].is_answered = True


def json_response(content: Any, status: int, headers: dict[str, str]) -> Response[bytes]:
    """It may hold signed links, which no cache between us and the client should keep."""
    headers = {"cache-control": "no-store", **headers}
    return Response(msgspec.json.encode(content), media_type="application/json", status_code=status, headers=headers)
