"""Makes spans from the events of the ends of requests, jobs, attempts and calls to sellers.

A span needs nothing but its event: its start is its end less its duration, and its parent's id is in the event or
derived from it. Spans contain no prompts, images, metadata, URLs, hosts or keys, since events contain none.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

from gateway.events import AttemptEnded, Event, JobEnded, RequestCompleted, SellerCallEnded
from gateway.jobs.job import JobState
from gateway.money import MICROS_PER_USD
from gateway.telemetry.logs import get_event_level
from gateway.trace_context import (
    TraceContext,
    derive_attempt_span_id,
    derive_job_span_id,
    make_span_id,
    read_saved_context,
)
from providers.orders import Cell

FIRST_CLIENT_ERROR, FIRST_SERVER_ERROR = 400, 500
FAILED_STATES = (JobState.FAILED, JobState.EXPIRED)
# Why spans are dropped.
QUEUE_FULL, EXPORT_FAILED = DROP_REASONS = ("queue_full", "export_failed")
# Counts dropped spans by reason. It is also called by the thread that exports them.
DropCounter = Callable[[str, int], None]
Attributes = Mapping[str, str | int | float | tuple[str, ...] | None]


class SpanKind(Enum):
    """Role of a span. The parent of a request's span is in another process."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Struct, frozen=True, kw_only=True):
    """A finished span. `error`: why it failed. Attributes that are None are omitted."""

    span_id: str
    parent_id: str | None
    name: str
    attributes: Attributes
    kind: SpanKind = SpanKind.INTERNAL
    error: str | None = None


class FinishedSpan(Struct, frozen=True, kw_only=True):
    """A span with its trace and time, in Unix seconds."""

    trace: TraceContext
    span: Span
    started_at: float
    ended_at: float


def make_finished_span(event: Event) -> FinishedSpan | None:
    """Returns the span that this event ends. Returns None if it ends none, or if the trace is not sampled."""
    build_span = _SPAN_BUILDERS.get(type(event))
    if build_span is None:
        return None
    # All events with spans have these fields.
    ended: Any = event
    trace = read_saved_context(ended.traceparent)
    if trace is None or not trace.is_sampled or (span := build_span(ended, trace)) is None:
        return None
    return FinishedSpan(trace=trace, span=span, started_at=ended.at - max(0.0, ended.seconds), ended_at=ended.at)


def _build_request_span(event: RequestCompleted, trace: TraceContext) -> Span | None:
    """Builds the span of a request, unless it has no line in the log either: monitoring and callbacks."""
    if get_event_level(event) is None:
        return None
    method, route = ("_OTHER", "HTTP") if event.method == "other" else (event.method, event.method)
    if is_known_route := event.route != "unknown":
        route = f"{route} {event.route}"
    return Span(
        span_id=trace.span_id,
        parent_id=event.client_span,
        name=route,
        attributes={
            "http.request.method": method,
            "http.route": event.route if is_known_route else None,
            "http.response.status_code": event.status,
            "igw.request.id": event.id,
            "igw.team": event.team,
            "igw.job.id": event.job,
        },
        kind=SpanKind.SERVER,
        error=str(event.status) if event.status >= FIRST_SERVER_ERROR else None,
    )


def _build_job_span(event: JobEnded, trace: TraceContext) -> Span:
    return Span(
        span_id=derive_job_span_id(event.job),
        parent_id=trace.span_id,
        name="job",
        attributes={
            "igw.job.id": event.job,
            "igw.job.state": str(event.state),
            "igw.team": event.team,
            "igw.model": event.model,
            **_list_cell_attributes(event.cell),
            "igw.images": event.images,
            "igw.delivered": event.delivered,
            "igw.sellers": event.sellers,
            "igw.queued_seconds": event.queued_seconds,
            "igw.cost_usd": event.captured_amount / MICROS_PER_USD,
        },
        error=str(event.fault or event.state) if event.state in FAILED_STATES else None,
    )


def _build_attempt_span(event: AttemptEnded, trace: TraceContext) -> Span:
    return Span(
        span_id=derive_attempt_span_id(event.job, event.attempt),
        parent_id=derive_job_span_id(event.job),
        name="attempt",
        attributes={
            "igw.job.id": event.job,
            "igw.attempt": event.attempt,
            "igw.seller": event.seller,
            "igw.team": event.team,
            "igw.model": event.model,
            **_list_cell_attributes(event.cell),
            "igw.images": event.images,
            "igw.delivered": event.delivered,
        },
        error=event.fault,
    )


def _build_seller_call_span(event: SellerCallEnded, trace: TraceContext) -> Span:
    job, attempt = event.job, event.attempt
    return Span(
        span_id=make_span_id(),
        parent_id=derive_job_span_id(job) if attempt is None else derive_attempt_span_id(job, attempt),
        name=event.step,
        attributes={
            "igw.job.id": job,
            "igw.attempt": attempt,
            "igw.seller": event.seller,
            "http.response.status_code": event.status,
        },
        kind=SpanKind.CLIENT,
        error=event.fault
        or (str(event.status) if event.status is not None and event.status >= FIRST_CLIENT_ERROR else None),
    )


def _list_cell_attributes(cell: Cell) -> Attributes:
    return {
        "igw.operation": str(cell.operation),
        "igw.resolution": cell.resolution,
        "igw.quality": cell.quality,
    }


_SPAN_BUILDERS: dict[type[Event], Callable[[Any, TraceContext], Span | None]] = {
    RequestCompleted: _build_request_span,
    JobEnded: _build_job_span,
    AttemptEnded: _build_attempt_span,
    SellerCallEnded: _build_seller_call_span,
}
