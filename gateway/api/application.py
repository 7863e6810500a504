"""The Litestar application: routes, error handlers, request ids and events."""

import asyncio
from collections.abc import Callable, Set
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State

from gateway.api.access_control import authorize_request, require_declared_scopes
from gateway.api.accounts.accounts_api import ACCOUNT_HANDLERS
from gateway.api.admin_api import ADMIN_HANDLERS
from gateway.api.api_context import ApiContext
from gateway.api.batches.batches_api import cancel_batch, create_batch, get_batch, list_batches
from gateway.api.batches.files_api import delete_team_file, download_file, get_file, list_files, upload_file
from gateway.api.budget_routes import BUDGET_HANDLERS
from gateway.api.callbacks import receive_callback
from gateway.api.cors_headers import CrossOriginHeaders, Origins
from gateway.api.error_translator import ErrorTranslator
from gateway.api.image_files import get_image_file
from gateway.api.images import create_edit, create_generation, create_variation
from gateway.api.incoming_body_limiter import IncomingBodyLimiter
from gateway.api.job_deletion import delete_job
from gateway.api.job_events import stream_job_events
from gateway.api.job_images import get_job_image
from gateway.api.job_listing import list_jobs
from gateway.api.jobs import cancel_job, create_job, get_job
from gateway.api.models import get_model, list_models
from gateway.api.monitoring_endpoints import livez, metrics, readyz
from gateway.api.quotes import create_quote
from gateway.api.reference.documentation_endpoints import DOCUMENTATION_HANDLERS, DocumentCache
from gateway.api.request_lifecycle import RequestLifecycle, SpanStarter, keep_client_span
from gateway.api.responses_api.response_routes import (
    cancel_response,
    create_response,
    delete_response,
    get_response,
    list_input_items,
)
from gateway.api.server_error_responses import select_charge_sentence
from gateway.api.usage.usage_api import USAGE_HANDLERS
from gateway.api.webhooks.webhook_target_routes import WEBHOOK_TARGET_HANDLERS
from gateway.api.webhooks.webhooks_api import WEBHOOK_HANDLERS
from gateway.assets.storage import StorageError
from gateway.events import ErrorReported, EventSink, describe_exception
from gateway.memory_budget import MemoryBudget
from gateway.timeouts_and_intervals import ApiTiming

ErrorHandler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]
ROUTE_HANDLERS = [
    *ADMIN_HANDLERS,
    *BUDGET_HANDLERS,
    *ACCOUNT_HANDLERS,
    create_generation,
    create_edit,
    create_variation,
    create_response,
    get_response,
    cancel_response,
    delete_response,
    list_input_items,
    list_models,
    get_model,
    create_job,
    get_job,
    list_jobs,
    cancel_job,
    delete_job,
    stream_job_events,
    get_job_image,
    create_quote,
    upload_file,
    list_files,
    get_file,
    download_file,
    delete_team_file,
    create_batch,
    list_batches,
    get_batch,
    cancel_batch,
    *WEBHOOK_HANDLERS,
    *WEBHOOK_TARGET_HANDLERS,
    *USAGE_HANDLERS,
    get_image_file,
    receive_callback,
    livez,
    readyz,
    metrics,
    *DOCUMENTATION_HANDLERS,
]


class Application(Litestar):
    """Assigns each request an id and emits an event for its response, also for unknown routes.

    `body_budget`: memory of the bodies of all requests; `disk_budget`: disk of all uploads; `start_span`: starts the
    span of a request, if traces are exported.
    """

    def __init__(
        self, emit: EventSink, timing: ApiTiming, cross_origin_headers: CrossOriginHeaders, **options: Any
    ) -> None:
        super().__init__(**options)
        self._emit, self._timing, self._cross_origin_headers = emit, timing, cross_origin_headers
        self.body_budget = MemoryBudget(timing.max_total_body_bytes)
        self.disk_budget = MemoryBudget(timing.max_total_upload_bytes)
        self.start_span: SpanStarter = keep_client_span
        self._running_requests: dict[RequestLifecycle, asyncio.Task[None] | None] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        lifecycle = RequestLifecycle(
            scope,
            send,
            IncomingBodyLimiter(receive, self.body_budget, self.disk_budget, self._timing),
            self.body_budget.make_outgoing_reservation(),
            self._cross_origin_headers,
        )
        lifecycle.start_trace(self.start_span)
        self._running_requests[lifecycle] = asyncio.current_task()
        try:
            if not await lifecycle.answer_preflight():
                await super().__call__(lifecycle.scope, lifecycle.incoming_body, lifecycle.send)
        except asyncio.CancelledError:
            if lifecycle.is_key_revoked:
                await lifecycle.end_revoked()
            else:
                await lifecycle.send_shutdown_error()
                raise
        except Exception as error:
            if not lifecycle.is_response_started:
                raise
            self._emit(_build_response_error_event(error, lifecycle.request_id))
            lifecycle.abort_response()
        finally:
            del self._running_requests[lifecycle]
            lifecycle.close()
            self._remove_departed_caller(lifecycle)
            self._emit(lifecycle.build_completed_event())

    def end_requests_of_keys(self, revoked_key_ids: Set[str]) -> None:
        """Ends running requests, such as streams and waits for a job, whose API key was revoked."""
        for lifecycle, task in self._running_requests.items():
            if lifecycle.key_id in revoked_key_ids and not lifecycle.is_key_revoked and task is not None:
                lifecycle.is_key_revoked = True
                task.cancel()

    def _remove_departed_caller(self, lifecycle: RequestLifecycle) -> None:
        """Removes a client that disconnected without a response from its job's callers."""
        record, team = lifecycle.find_abandoned_record(), lifecycle.team
        if record is not None and team is not None:
            context: ApiContext = self.state["context"]
            context.engine.job_caller_remover.remove_in_background(team, record)


def _build_response_error_event(error: BaseException, request_id: str) -> ErrorReported:
    """Builds the event for an error in the middle of a response."""
    # Litestar wraps it in its own exception, and its task group wraps it in another.
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, StorageError):
        return ErrorReported(component="storage", message=str(cause), request=request_id)
    return ErrorReported(component="api", message=describe_exception(cause), request=request_id)


def create_application(
    state: dict[str, Any], emit: EventSink, lifespan: list[Any], timing: ApiTiming, get_allowed_origins: Origins
) -> Application:
    require_declared_scopes(ROUTE_HANDLERS)
    translator = ErrorTranslator(emit, timing)
    return Application(
        emit,
        timing,
        CrossOriginHeaders(get_allowed_origins),
        route_handlers=ROUTE_HANDLERS,
        before_request=authorize_request,
        state=State({**state, "error_translator": translator, "documents": DocumentCache(ROUTE_HANDLERS)}),
        lifespan=lifespan,
        exception_handlers={Exception: _make_error_handler(translator)},
        # `request_body_reader.py` reads bodies and limits their size.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _make_error_handler(translator: ErrorTranslator) -> ErrorHandler:
    """Makes the handler of every exception of a route handler."""

    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        api_error = translator.translate(request, error)
        request_id = request.scope["state"].get("request_id")
        charge_sentence = select_charge_sentence(request.scope)
        content, media_type = api_error.render(request.scope["path"], request_id, charge_sentence)
        headers = api_error.build_response_headers()
        return Response(content, media_type=media_type, status_code=api_error.status, headers=headers)

    return handle
