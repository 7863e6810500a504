"""Parses HTTP requests into job requests."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.access.principal import Principal
from gateway.api.api_context import ApiContext, HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.bracketed_form_decoder import parse_form_fields
from gateway.api.client_presence import ClientPresence
from gateway.api.form_reader import encode_parts, is_form, read_form
from gateway.api.idempotency_record_builder import compute_fingerprint, make_idempotency_record
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.job_submission import JobRequest
from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_normalization import has_dalle_model, normalize_fields
from gateway.api.parameter_table import AUTO, ParamsT
from gateway.api.request_body_reader import limit_body, parse_json_object, read_body, to_struct
from gateway.api.request_parser_thread import run_off_loop
from gateway.catalogue import Catalogue
from gateway.jobs.budgets import KeyBudget
from gateway.jobs.commit import IdempotencyRecord
from gateway.routing.routing_request import RequestedParams
from providers.orders import Operation


async def parse_request(
    context: ApiContext, http_request: HttpRequest, body_type: type[ParamsT]
) -> JobRequest[ParamsT]:
    """Reads and validates the body. Raises ApiError if any part is invalid."""
    headers, state = http_request.headers, http_request.scope["state"]
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        message = "Content-Encoding is not supported: send the body uncompressed."
        raise ApiError(415, "unsupported_encoding", message)
    if body_type.accepts_forms and is_form(headers.get("content-type", "")):
        request = await _parse_form(context, http_request, body_type)
    else:
        body = await read_body(http_request.stream(), headers.get("content-length"), body_type.max_body_bytes)
        request = await run_off_loop(len(body), _parse_json, context, http_request, body, body_type)
    state["presence"] = request.presence
    return request


async def _parse_form(context: ApiContext, http_request: HttpRequest, body_type: type[ParamsT]) -> JobRequest[ParamsT]:
    headers, incoming_body = http_request.headers, get_incoming_body(http_request.scope["state"])
    chunks = limit_body(http_request.stream(), headers.get("content-length"), body_type.max_body_bytes)
    parts = await read_form(chunks, headers["content-type"], incoming_body)
    fields = parse_form_fields((part.name, part.value) for part in parts)
    fingerprint = compute_fingerprint(http_request.scope["path"], encode_parts(parts))
    return _make_job_request(context, http_request, body_type, fields, fingerprint)


def _parse_json(
    context: ApiContext, http_request: HttpRequest, body: bytes, body_type: type[ParamsT]
) -> JobRequest[ParamsT]:
    fields = parse_json_object(body, http_request.headers.get("content-type", ""), body_type.accepts_forms)
    fingerprint = compute_fingerprint(http_request.scope["path"], body)
    return _make_job_request(context, http_request, body_type, fields, fingerprint)


def _make_job_request(
    context: ApiContext, http_request: HttpRequest, body_type: type[ParamsT], fields: dict[str, Any], fingerprint: str
) -> JobRequest[ParamsT]:
    catalogue, headers, state = context.catalogue(), http_request.headers, http_request.scope["state"]
    if deployment := http_request.path_params.get("deployment"):
        # Azure names the model in the path; its clients may send an empty `model` in the body.
        fields["model"] = deployment
    presence = ClientPresence(context.store.replica_id, state.get("client_connection"))
    record = make_idempotency_record(headers, fingerprint, presence.client_id, catalogue.gateway.jobs.deadline_seconds)
    trace = state["traceparent"], state["tracestate"]
    principal: Principal = state["principal"]
    caller = Caller(state["team"], principal.key_id, principal.key_budget, record, presence, *trace)
    return make_job_request(catalogue, caller, body_type, fields)


class Caller(Struct, frozen=True):
    """The sender of a request, and the record that recognizes its repetitions. `traceparent`, `tracestate`: None for
    lines of batches, which have no trace."""

    team: str
    key_id: str
    key_budget: KeyBudget | None
    idempotency: IdempotencyRecord
    presence: ClientPresence
    traceparent: str | None = None
    tracestate: str | None = None


def make_job_request(
    catalogue: Catalogue, caller: Caller, body_type: type[ParamsT], fields: dict[str, Any]
) -> JobRequest[ParamsT]:
    """Validates the parameters. Raises an ApiError that names the invalid one."""
    translated = body_type.translate_fields(fields, catalogue)
    fields = translated.fields
    values, warnings = normalize_fields(fields, get_parameters(body_type), catalogue)
    params = to_struct(values, body_type)
    return JobRequest(
        team=caller.team,
        key_id=caller.key_id,
        key_budget=caller.key_budget,
        params=params,
        operation=getattr(params, "operation", Operation.GENERATE),
        idempotency=caller.idempotency,
        presence=caller.presence,
        is_dalle_client=has_dalle_model(fields, catalogue),
        warnings=(*translated.warnings, *warnings, *params.warnings),
        requested_params=_collect_requested_params(fields),
        echoed_params=translated.echoed_params,
        traceparent=caller.traceparent,
        tracestate=caller.tracestate,
    )


def _collect_requested_params(fields: Mapping[str, Any]) -> RequestedParams:
    """Collects the image parameters as the client sent them. Omits those that are `auto` or null."""
    sent: dict[str, str] = {}
    for name in RequestedParams.__struct_fields__:
        text = str(fields.get(name) or AUTO)
        if text.strip().lower() != AUTO:
            sent[name] = text[:200]
    return RequestedParams(**sent)
