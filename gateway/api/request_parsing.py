"""Parses HTTP requests into job requests."""

from collections.abc import Mapping
from typing import Any, Generic

from msgspec import Struct

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import authenticate_request
from gateway.api.client_presence import ClientPresence
from gateway.api.idempotency_keys import compute_fingerprint, validate_idempotency_key
from gateway.api.job_submission import JobRequest
from gateway.api.param_normalization import NormalizedFields, normalize_fields
from gateway.api.request_body import parse_json_object, read_body, to_struct
from gateway.api.request_parser_thread import run_off_loop
from gateway.api.request_schemas import AUTO, ParamsT
from gateway.catalogue import Catalogue
from gateway.routing.routing_request import RequestedParams
from providers.orders import Operation


async def parse_request(http_request: HttpRequest, body_type: type[ParamsT]) -> tuple[JobRequest, ParamsT]:
    """Authenticates the client, then reads and validates the body. Raises ApiError if any part is invalid.

    The body of an unauthenticated client is never read.
    """
    team = authenticate_request(http_request)
    headers, state = http_request.headers, http_request.scope["state"]
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        message = "Content-Encoding is not supported: send the body uncompressed."
        raise ApiError(415, "unsupported_encoding", message)
    body = await read_body(http_request.stream(), headers.get("content-length"), body_type.max_body_bytes)
    catalogue = get_context(http_request).catalogue()
    parsed = await run_off_loop(len(body), _parse_body, http_request, body, catalogue, body_type)
    params = parsed.params
    presence = ClientPresence(get_context(http_request).store.replica_id, state.get("client_connection"))
    state["presence"] = presence
    retry_header = headers.get("x-stainless-retry-count", "0")
    job_request = JobRequest(
        team=team,
        params=params,
        warnings=parsed.fields.warnings + params.warnings,
        is_dalle_client=parsed.fields.is_dalle_client,
        requested_params=parsed.requested_params,
        operation=getattr(params, "operation", Operation.GENERATE),
        fingerprint=parsed.fingerprint,
        idempotency_key=validate_idempotency_key(headers.get("idempotency-key")),
        reports_retries="x-stainless-retry-count" in headers,
        retry_count=int(retry_header[:3]) if retry_header.isascii() and retry_header.isdigit() else 0,
        presence=presence,
    )
    return job_request, params


class _ParsedBody(Struct, Generic[ParamsT], frozen=True):
    """A validated body. `fingerprint` identifies repetitions of the same request."""

    params: ParamsT
    fields: NormalizedFields
    requested_params: RequestedParams
    fingerprint: str


def _parse_body(
    http_request: HttpRequest, body: bytes, catalogue: Catalogue, body_type: type[ParamsT]
) -> _ParsedBody[ParamsT]:
    fields = parse_json_object(body, http_request.headers.get("content-type", ""))
    if deployment := http_request.path_params.get("deployment"):
        # Azure names the model in the path; its clients may send an empty `model` in the body.
        fields["model"] = deployment
    normalized = normalize_fields(fields, catalogue)
    return _ParsedBody(
        params=to_struct(normalized.values, body_type),
        fields=normalized,
        requested_params=_collect_requested_params(fields),
        fingerprint=compute_fingerprint(http_request.scope["path"], body),
    )


def _collect_requested_params(fields: Mapping[str, Any]) -> RequestedParams:
    """Collects the image parameters as the client sent them. Omits those that are `auto` or null."""
    sent = {name: str(fields.get(name) or AUTO) for name in RequestedParams.__struct_fields__}
    return RequestedParams(**{name: text[:200] for name, text in sent.items() if text.strip().lower() != AUTO})
