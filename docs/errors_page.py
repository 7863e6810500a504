"""Generates `docs/errors.md`: every error code of the API, from the code in `gateway/api`."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from gateway.api.charge_sentences import CHARGED_IF_DELIVERED, NOT_CHARGED
from gateway.api.failed_job_responses import respond_to_failure
from gateway.jobs.failed_job_retry_safety import JobFailure
from gateway.jobs.job import JobState
from providers.faults import VERDICTS, ChargeStatus, FaultKind

Row = tuple[str, ...]
ERRORS_HEAD: Row = ("Code", "Status", "Message", "What to do", "Retry?")
FAILURES_HEAD: Row = ("Code", "Status", "Message", "What to do", "Retry?", "Charged?")
API_FOLDER = Path(__file__).parent.parent / "gateway" / "api"
# Of the one call whose status is that of an exception of Litestar.
DEFAULT_STATUS = 400
# The calls that make errors: the code is their second argument, the message or its cause the third one.
ERROR_FUNCTIONS = {"ApiError", "service_unavailable_error"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Advice for clients and operators. The generator fails if a code is missing here, or no longer exists.
WHAT_TO_DO = {
    "api_key_expired": "Use the key that replaced it, or ask operators for a new one (`image-gateway keys rotate`).",
    "api_key_revoked": "Ask operators for a new key (`image-gateway keys new`).",
    "api_key_configured": "Operators: change the key in the file that the message names.",
    "api_key_inactive": "Operators: create a new key instead of changing or rotating this one.",
    "api_key_not_found": "Operators: use an id of `GET /v1/admin/keys`.",
    "team_not_configured": "Operators: add the team to `teams.yaml`, or revoke the key.",
    "batch_ended": "Nothing: read the batch, which is final.",
    "batch_not_found": "Use the id of one of your team's batches.",
    "body_timeout": "Send the whole body without pauses.",
    "body_too_large": "Send a smaller body; pass large images as URLs.",
    "call_again": "For sellers only: they send the callback again.",
    "callback_refused": "For sellers only. If a seller gets it, compare its callback secret in `accounts.yaml`.",
    "caller_gone": "No client receives it: it only appears in metrics.",
    "client_left": "No client receives it: it only appears in metrics.",
    "delivery_not_found": "Use the id of one of your team's webhooks; they are deleted some days after their end.",
    "draining": "Retry: another replica, or the restarted one, answers.",
    "duplicate_custom_id": "Give each line of the file its own `custom_id`.",
    "duplicate_header": "Send the header that `param` names once.",
    "duplicate_parameter": "Send each parameter once.",
    "head_timeout": "Retry.",
    "file_in_use": "Cancel the batch that the message names, or wait for its end.",
    "file_not_found": "Use the id of one of your team's files; they expire (`expires_at`).",
    "file_too_large": "Split the file into several batches.",
    "empty_image_file": "Send the image; a file that was read before must be read again from its start.",
    "endpoint_retired": "Use the route that the message names.",
    "headers_too_large": "Send fewer or shorter headers.",
    "idempotency_key_reused": "Use a new key for each new request.",
    "image_deleted": "Generate the image again; `kept_until` of a job says when its images are deleted.",
    "image_not_found": "Use an index of the job's `images`, or another input image.",
    "image_too_large": "Scale or compress the image.",
    "images_unavailable": "Retry; operators: check the image storage.",
    "insufficient_scope": "Use a key with the scope that the message names.",
    "webhook_target_not_found": "Operators: use an id of `GET /v1/admin/webhooks`.",
    "webhook_target_conflict": "Operators: do what the message says; targets of `teams.yaml` are changed only there.",
    "budget_override_not_found": "List the overrides in force: `image-gateway budgets`.",
    "insufficient_quota": "Wait until the budget that the message names returns, or raise it ([budgets](budgets.md)).",
    "internal_error": "Report the `x-request-id`; the log has the cause. With a job id, read the job.",
    "invalid_api_key": "Use a key of `teams.yaml`, or one that `image-gateway keys new` made.",
    "invalid_base64_image": "Send the base64 of the image's bytes, with or without `data:image/png;base64,`.",
    "invalid_body": "Send as `body` what you would send to the route.",
    "invalid_custom_id": "Use a text that identifies the line.",
    "invalid_form": "Build the form with an HTTP client library, and let it set the `Content-Type`.",
    "invalid_idempotency_key": "Use for example a UUID.",
    "invalid_host": "Send one `Host` header, as every HTTP client library does.",
    "invalid_image": "Send a complete still PNG, JPEG or WebP.",
    "invalid_image_mode": "Send a PNG mask with an alpha channel.",
    "invalid_image_url": "Use a public URL that responds without login, or send the image in the request.",
    "invalid_json": "Send a valid JSON object.",
    "invalid_method": "Set `method` to `POST`.",
    "invalid_request": "Correct the request.",
    "invalid_value": "Correct the parameter that `param` names.",
    "job_ended": "Nothing: read the job, which is final.",
    "job_not_found": "Use the id of one of your team's jobs.",
    "job_running": "Cancel the job, or wait until it is settled; then delete it.",
    "line_too_long": "Pass large images as URLs.",
    "link_invalid": "Read the job again: its response has new URLs.",
    "malformed_request": "Use an HTTP client library.",
    "max_cost_exceeded": "Raise the `max_cost` of the batch, or send fewer lines.",
    "mismatched_url": "Set `url` to the endpoint of the batch.",
    "method_not_allowed": "Use a method of the `Allow` header.",
    "missing_api_key": "Send your team's key.",
    "missing_required_parameter": "Add the parameter that `param` names.",
    "model_not_found": "Use a model or alias that the message lists.",
    "moderation_blocked": "Change the prompt or the images.",
    "moderation_unavailable": "Retry; operators: check the server of the hook ([moderation](moderation.md)).",
    "no_offer": "Relax the limit that the message names, or ask operators for another offer.",
    "rate_limit_exceeded": "Retry after the seconds of `Retry-After`; OpenAI's SDKs do so by themselves.",
    "previous_response_not_found": "Use the id of one of your team's responses that is not deleted.",
    "range_not_satisfiable": "Use a range within the bytes that `Content-Range` names.",
    "response_not_found": "Use the id of one of your team's responses.",
    "route_not_found": "Use a route that the message lists.",
    "still_running": "Poll `GET /v1/jobs/{id}`.",
    "storage_unavailable": "Retry; operators: check the image storage.",
    "store_unavailable": "Retry; operators: check the job store.",
    "too_many_batches": "Wait for the end of a batch, or cancel one.",
    "too_many_bodies": "Retry.",
    "too_many_downloads": "Retry, or send the images in the request.",
    "unknown_parameter": "Remove or correct the parameter that `param` names.",
    "unsupported_encoding": "Send the body uncompressed.",
    "unsupported_transfer_encoding": "Send the body uncompressed, with `Content-Length` or in chunks.",
    "unsupported_image_media_type": "Convert the image to PNG, JPEG or WebP.",
    "unsupported_media_type": "Set `Content-Type: application/json`; routes with input images accept forms, too.",
    "unsupported_parameter": "Omit the parameter that `param` names, or do what the message says.",
    "withdrawn": "Retry.",
    "webhooks_not_configured": "Poll the job; operators: give the team a secret (`webhooks.secrets` in `teams.yaml`).",
}
WHAT_TO_DO_ABOUT_FAILURES = {
    "cancelled": "Nothing: the team cancelled the job.",
    "deadline_exceeded": "If frequent: no seller had a free slot; configure more concurrency, or another seller.",
    "input_missing": "Send the request again with its images.",
    "moderation_blocked": "Change the prompt or the images.",
    "moderation_unavailable": "Operators: check the server of the hook ([moderation](moderation.md)).",
    "order_refused": "Read `seller_message` of the job's attempts, and correct what the offer claims.",
    "outcome_unknown": "Do not retry. The ledger lists the order as `suspected` until its outcome is known.",
    "paid_not_delivered": "Complain to the seller: the ledger lists the order as `orphan`.",
    "sellers_failed": "Read the faults of the job's attempts: the orders failed, or no seller has the model.",
    "sellers_unavailable": "Retry later. Operators: read the faults of the job's attempts, e.g. `no_credit`.",
    "withdrawn": "Retry.",
}
CHARGE_TEXTS = {ChargeStatus.NOT_CHARGED: "no", ChargeStatus.UNKNOWN: "perhaps", ChargeStatus.CHARGED: "yes"}


@dataclass
class ErrorSummary:
    """All responses with one error code."""

    statuses: set[int] = field(default_factory=set)
    messages: dict[str, None] = field(default_factory=dict)
    retries: set[bool] = field(default_factory=set)
    charges: set[str] = field(default_factory=set)


def build_error_rows() -> list[Row]:
    errors = _collect_request_errors()
    _require_same_codes(errors, WHAT_TO_DO)
    return [
        (f"`{code}`", _format_statuses(error), _format_messages(error), WHAT_TO_DO[code], _format_retries(error))
        for code, error in sorted(errors.items())
    ]


def build_failure_rows() -> list[Row]:
    failures = _collect_job_failures()
    _require_same_codes(failures, WHAT_TO_DO_ABOUT_FAILURES)
    return [
        (
            f"`{code}`",
            _format_statuses(failure),
            _format_messages(failure),
            WHAT_TO_DO_ABOUT_FAILURES[code],
            _format_retries(failure),
            ", ".join(text for text in CHARGE_TEXTS.values() if text in failure.charges),
        )
        for code, failure in sorted(failures.items())
    ]


def build_error_table() -> dict[str, dict[str, object]]:
    """Builds what the OpenAPI document says about each code; a code can be of a request and of a failed job."""
    errors, failures = _collect_request_errors(), _collect_job_failures()
    return {
        code: {
            "statuses": sorted(errors[code].statuses | failures[code].statuses),
            "advice": (WHAT_TO_DO | WHAT_TO_DO_ABOUT_FAILURES)[code],
        }
        for code in sorted({*errors, *failures})
    }


def render_errors_body(errors_table: str, failures_table: str) -> str:
    return f"""
# Errors

Every error code of the API. The body on routes of OpenAI's API is `{{"error": {{"message", "type", "param",
"code"}}}}`, elsewhere an RFC 9457 problem that contains the same `error`. Every response has an `x-request-id`.

- *Message*: `…` stands for a value of the request or the configuration.
- *Retry?*: whether the same request may succeed. *yes*: the response has `x-should-retry: true`; retry after the
  seconds of `Retry-After`, 1 to 120. *no*: the response has `x-should-retry: false`. *both*: depends on the status
  or on whether a job was created ([why](limits.md#status-codes-of-requests-that-fail-in-the-gateway)).
- *Charged?*: whether a seller may have charged the operator for an order of the job. Teams are only charged for
  delivered images.

## Requests

The message of a `POST` by a client ends with one sentence about the charge, which the table omits: "{NOT_CHARGED}" if
no job exists for the request, otherwise "{CHARGED_IF_DELIVERED}" `malformed_request`, `invalid_host`,
`unsupported_transfer_encoding`, `head_timeout` and `headers_too_large` end with "{NOT_CHARGED}" on any method. Other
requests cannot order: sellers' callbacks (`POST /callbacks/…`), the admin API, quotes and what is done with an
existing job. Their errors have no such
sentence.

{errors_table}
The messages of `draining`, `images_unavailable` and `store_unavailable` continue with what to do. Before a job exists:
"Retry the request." Afterwards, with an `Idempotency-Key` or from OpenAI's SDK: "The job continues at GET
/v1/jobs/…; retry the same request to get that job."; otherwise, with status 424: "The job continues at GET /v1/jobs/…;
the same request again may be a new purchase."

An `internal_error` has status 500 before a job exists. Afterwards it has 424, and its message is "Internal error. The
job continues at GET /v1/jobs/…." In all these messages, "If a job was created for this request, it continues" replaces
"The job continues at GET /v1/jobs/…" while the store has not confirmed whether it saved the job.

After the first byte of a stream of events (`"stream": true`), an error is an event: `event: error`, and as data
`{{"type": "error", "error": …}}` with the same `error`. The stream of a [response](responses.md) whose job failed has
`response.failed` before it.

## Jobs that ended without images

The same `code` and message are in the job's `error`. A message gives the cause, what to do, and one sentence about the
charge. `Retry-After` is what a seller sent, between 1 and 120 seconds, otherwise 60.

{failures_table}"""


def _require_same_codes(found: dict[str, ErrorSummary], described: dict[str, str]) -> None:
    if found.keys() != described.keys():
        difference = sorted(found.keys() ^ described.keys())
        raise SystemExit(f"docs/errors_page.py: describe exactly the codes of the API; differing: {difference}")


def _collect_job_failures() -> dict[str, ErrorSummary]:
    failures: dict[str, ErrorSummary] = defaultdict(ErrorSummary)
    for failure in _list_job_failures():
        response = respond_to_failure(failure)
        summary = failures[response.code]
        summary.statuses.add(response.status)
        summary.messages[response.message] = None
        summary.retries.add(response.retry_after is not None)
        summary.charges.add(CHARGE_TEXTS[failure.charge_status])
    return failures


def _list_job_failures() -> Iterator[JobFailure]:
    states = (JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED)
    for state, (fault, charge) in product(states, _list_charged_faults()):
        # Reported as the job's fault even if an earlier attempt was charged.
        if state is JobState.FAILED and fault is FaultKind.CONTENT_REFUSED:
            yield from (
                JobFailure(state, earlier_charge, fault, is_safe_to_retry=False) for earlier_charge in ChargeStatus
            )
            continue
        is_temporary = VERDICTS[fault].is_transient if fault else state is JobState.EXPIRED
        if state is JobState.CANCELLED:
            yield JobFailure(state, charge, fault, is_safe_to_retry=False)
            yield JobFailure(state, ChargeStatus.NOT_CHARGED, None, is_safe_to_retry=True)
        elif fault or state is JobState.EXPIRED:
            is_safe = is_temporary and charge is ChargeStatus.NOT_CHARGED
            yield JobFailure(state, charge, fault, is_safe_to_retry=is_safe)


def _list_charged_faults() -> Iterator[tuple[FaultKind | None, ChargeStatus]]:
    """Yields the faults, each with the charge of its verdict, and as charged: a seller may report a cost with it."""
    yield None, ChargeStatus.NOT_CHARGED
    for fault in FaultKind:
        charge = VERDICTS[fault].charge_status
        yield fault, charge
        # Without its input no order is sent, so no seller reports a cost.
        if charge is not ChargeStatus.CHARGED and fault is not FaultKind.INPUT_MISSING:
            yield fault, ChargeStatus.CHARGED


def _collect_request_errors() -> dict[str, ErrorSummary]:
    errors: dict[str, ErrorSummary] = defaultdict(ErrorSummary)
    trees = [ast.parse(path.read_text()) for path in sorted(API_FOLDER.rglob("*.py"))]
    functions = {function.name: function for tree in trees for function in _list_functions(tree)}
    for tree in trees:
        seen: set[int] = set()
        for scope in (*reversed(_list_functions(tree)), tree):
            for call in ast.walk(scope):
                if isinstance(call, ast.Call) and id(call) not in seen and _get_name(call.func) in ERROR_FUNCTIONS:
                    seen.add(id(call))
                    _add_call(errors, call, _ScopeValues(scope, call.lineno, functions))
    return errors


def _list_functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _add_call(errors: dict[str, ErrorSummary], call: ast.Call, values: "_ScopeValues") -> None:
    codes = [str(code) for code in values.list_constants(call.args[1], str)]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    for code in codes:
        summary = errors[code]
        if _get_name(call.func) == "service_unavailable_error":
            summary.statuses |= {503, 424}
            summary.retries |= {True, False}
        else:
            statuses = values.list_constants(call.args[0], int) or [DEFAULT_STATUS]
            summary.statuses |= {status for status in statuses if isinstance(status, int)}
            is_retryable = keywords.get("is_retryable")
            summary.retries.add(
                "retry_after" in keywords
                if is_retryable is None
                else isinstance(is_retryable, ast.Constant) and bool(is_retryable.value)
            )
        for message in values.render(call.args[2]):
            summary.messages[message] = None


def _get_name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else ""


class _ScopeValues:
    """The expressions that the local names of a function have in one of its lines."""

    def __init__(self, scope: ast.AST, line: int, functions: Mapping[str, Function]) -> None:
        self._expressions: dict[str, ast.expr] = {}
        self._functions = functions
        assignments = [node for node in ast.walk(scope) if isinstance(node, ast.Assign) and node.lineno < line]
        for node in sorted(assignments, key=lambda node: node.lineno):
            self._add(node.targets[0], node.value)

    def _add(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._expressions[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for inner_target, inner_value in zip(target.elts, value.elts, strict=True):
                self._add(inner_target, inner_value)

    def list_constants(self, expression: ast.expr, kind: type) -> list[object]:
        """All constants of the type that the expression can be."""
        match expression:
            case ast.Name(id=name) if name in self._expressions:
                return self.list_constants(self._expressions[name], kind)
            case ast.IfExp(body=body, orelse=orelse):
                return [*self.list_constants(body, kind), *self.list_constants(orelse, kind)]
            case ast.Call(func=ast.Attribute(value=ast.Dict(values=choices), attr="get"), args=[_, default]):
                return [value for choice in (*choices, default) for value in self.list_constants(choice, kind)]
            case ast.Constant(value=value) if isinstance(value, kind):
                return [value]
            case _:
                return []

    def render(self, expression: ast.expr) -> list[str]:
        """The texts that the expression can be, with `…` for each value."""
        match expression:
            case ast.Constant(value=str() as text):
                return [text]
            case ast.Name(id=name) if name in self._expressions:
                return self.render(self._expressions[name])
            case ast.IfExp(body=body, orelse=orelse):
                return [*self.render(body), *self.render(orelse)]
            case ast.BinOp(op=ast.Add(), left=left):
                return self.render(left)
            case ast.Call(func=ast.Attribute(value=value, attr="rstrip")):
                return self.render(value)
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                return self._render_returns(self._functions[name])
            case ast.JoinedStr(values=parts):
                return ["".join(self._render_part(part) for part in parts)]
            case _:
                return ["…"]

    def _render_returns(self, function: Function) -> list[str]:
        returned = [
            (node.lineno, node.value) for node in ast.walk(function) if isinstance(node, ast.Return) and node.value
        ]
        return [
            text for line, value in returned for text in _ScopeValues(function, line, self._functions).render(value)
        ]

    def _render_part(self, part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        texts = self.render(inner) if isinstance(inner, ast.Name) else ["…"]
        return texts[0] if len(texts) == 1 else "…"


def _format_statuses(error: ErrorSummary) -> str:
    return ", ".join(map(str, sorted(error.statuses)))


def _format_messages(error: ErrorSummary) -> str:
    messages = [_format_message(message) for message in error.messages if set(message) - set("… .,")]
    return "<br>".join(dict.fromkeys(messages))


def _format_message(message: str) -> str:
    """Escapes table syntax and joins neighbouring placeholders."""
    text = re.sub(r"…(?:[ .]*…)*(?:\.(?= |$))?", "…", message)
    return text.replace("|", "\\|").replace("<", "&lt;")


def _format_retries(error: ErrorSummary) -> str:
    return "both" if len(error.retries) > 1 else "yes" if True in error.retries else "no"
