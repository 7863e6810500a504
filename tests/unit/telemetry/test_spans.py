"""Spans are made from the events of ends alone."""

import pytest
from msgspec.structs import replace

from gateway.events import Event, RequestCompleted, SellerCallEnded
from gateway.jobs.job import JobState
from gateway.telemetry.spans import Span, SpanKind, make_finished_span
from gateway.trace_context import derive_attempt_span_id, derive_job_span_id
from providers.faults import FaultKind
from tests.unit.telemetry.sample_events import ATTEMPT_ENDED, JOB_ENDED, REQUEST, SAMPLE_EVENTS, SELLER_CALL

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE_ID}-{SPAN_ID}-{flags}" for flags in ("01", "00"))
JOB_SPAN_ID, ATTEMPT_SPAN_ID = derive_job_span_id("job_1"), derive_attempt_span_id("job_1", 1)
ENDS = (REQUEST, JOB_ENDED, ATTEMPT_ENDED, SELLER_CALL)


def make_span(event: Event) -> Span:
    finished = make_finished_span(replace(event, traceparent=SAMPLED))  # type: ignore[type-var]
    assert finished is not None
    return finished.span


@pytest.mark.parametrize("event", SAMPLE_EVENTS, ids=lambda event: type(event).__name__)
def test_only_ends_of_sampled_traces_have_spans(event: Event) -> None:
    is_end = isinstance(event, tuple(type(end) for end in ENDS))
    assert make_finished_span(event) is None
    if hasattr(event, "traceparent"):
        assert make_finished_span(replace(event, traceparent=NOT_SAMPLED)) is None  # type: ignore[type-var]
        assert (make_finished_span(replace(event, traceparent=SAMPLED)) is not None) == is_end  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("event", "span_id", "parent_id", "kind"),
    [
        (REQUEST, SPAN_ID, None, SpanKind.SERVER),
        (replace(REQUEST, client_span="1" * 16), SPAN_ID, "1" * 16, SpanKind.SERVER),
        (JOB_ENDED, JOB_SPAN_ID, SPAN_ID, SpanKind.INTERNAL),
        (ATTEMPT_ENDED, ATTEMPT_SPAN_ID, JOB_SPAN_ID, SpanKind.INTERNAL),
        (replace(ATTEMPT_ENDED, attempt=2), derive_attempt_span_id("job_1", 2), JOB_SPAN_ID, SpanKind.INTERNAL),
    ],
)
def test_span_is_below_its_parent(event: Event, span_id: str, parent_id: str | None, kind: SpanKind) -> None:
    span = make_span(event)
    assert (span.span_id, span.parent_id, span.kind) == (span_id, parent_id, kind)


def test_calls_to_sellers_are_below_their_attempt_or_the_job() -> None:
    first, second, upload = (
        make_span(event) for event in (SELLER_CALL, SELLER_CALL, replace(SELLER_CALL, attempt=None))
    )
    assert first.parent_id == second.parent_id == ATTEMPT_SPAN_ID
    assert first.span_id != second.span_id, "an order has many polls"
    assert upload.parent_id == JOB_SPAN_ID


@pytest.mark.parametrize("event", ENDS, ids=lambda event: type(event).__name__)
def test_start_is_the_end_less_the_duration(event: Event) -> None:
    for seconds, started_at in ((2.5, 1_789_999_997.5), (-0.1, 1_790_000_000.0)):
        finished = make_finished_span(replace(event, traceparent=SAMPLED, seconds=seconds))  # type: ignore[type-var]
        assert finished is not None
        assert (finished.started_at, finished.ended_at) == (started_at, 1_790_000_000.0)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        *((replace(REQUEST, status=status), None) for status in (200, 302, 400, 429, 499)),
        *((replace(REQUEST, status=status), str(status)) for status in (500, 503)),
        (replace(JOB_ENDED, state=JobState.FAILED, fault=FaultKind.CONTENT_REFUSED), "content_refused"),
        (replace(JOB_ENDED, state=JobState.EXPIRED, fault=None), "expired"),
        (replace(JOB_ENDED, state=JobState.CANCELLED), None),
        (replace(ATTEMPT_ENDED, fault=FaultKind.UNAVAILABLE), "unavailable"),
        (replace(SELLER_CALL, status=404), "404"),
        (replace(SELLER_CALL, status=None, fault="response_lost"), "response_lost"),
    ],
)
def test_failures_are_errors(event: Event, error: str | None) -> None:
    assert make_span(event).error == error


@pytest.mark.parametrize(
    ("method", "route", "name", "recorded_method", "recorded_route"),
    [
        ("GET", "/v1/jobs/{job_id}", "GET /v1/jobs/{job_id}", "GET", "/v1/jobs/{job_id}"),
        ("POST", "unknown", "POST", "POST", None),
        ("other", "unknown", "HTTP", "_OTHER", None),
    ],
)
def test_request_is_named_by_its_route(
    method: str, route: str, name: str, recorded_method: str, recorded_route: str | None
) -> None:
    span = make_span(replace(REQUEST, method=method, route=route))
    assert span.name == name
    assert (span.attributes["http.request.method"], span.attributes["http.route"]) == (recorded_method, recorded_route)


@pytest.mark.parametrize(
    ("route", "status", "has_span"), [("/livez", 200, False), ("/callbacks/{adapter}", 204, False)]
)
def test_requests_without_a_log_line_have_no_span(route: str, status: int, has_span: bool) -> None:
    event: RequestCompleted = replace(REQUEST, route=route, status=status, traceparent=SAMPLED)
    assert (make_finished_span(event) is not None) == has_span


def test_event_of_a_call_has_no_log_line_field_with_text_of_sellers() -> None:
    """Its fields are ids, numbers and members of closed sets."""
    names = set(SellerCallEnded.__struct_fields__)
    assert names == {
        *("at", "job", "config", "traceparent"),
        *("seller", "attempt", "step", "seconds", "status", "fault"),
    }
