"""Exports spans to an OpenTelemetry collector. Only `tracing.py` imports this module, since its packages are optional.

A thread of OpenTelemetry's SDK sends the spans in batches. Spans that do not fit into its queue, and batches that the
collector does not accept, are dropped, so that no request or job ever waits for the collector.
"""

import asyncio
import contextlib
import logging
import threading
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from gateway.events import Event
from gateway.telemetry import spans
from gateway.trace_context import SAMPLED_FLAG, TraceContext, make_span_id, make_trace_id

DEFAULT_SERVICE_NAME = "image-gateway"
_NANOSECONDS = 1_000_000_000
_KINDS = {
    spans.SpanKind.SERVER: SpanKind.SERVER,
    spans.SpanKind.CLIENT: SpanKind.CLIENT,
    spans.SpanKind.INTERNAL: SpanKind.INTERNAL,
}


class TraceExporter:
    """An event sink: exports the spans that events end. The variables OTEL_* configure it.

    `instance_id`: names this replica, since the spans of one job may come from several. Raises ValueError if a variable
    is invalid.
    """

    def __init__(self, instance_id: str) -> None:
        # Python prints the log of a library without a handler to standard error, also before and after the gateway
        # captures it.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        provider = TracerProvider(resource=_make_resource(instance_id), shutdown_on_exit=False)
        self._sampler, self.resource = provider.sampler, provider.resource
        self._scope = InstrumentationScope(DEFAULT_SERVICE_NAME, version(DEFAULT_SERVICE_NAME))
        self._processor = BatchSpanProcessor(OTLPSpanExporter())

    def __call__(self, event: Event) -> None:
        if (finished := spans.make_finished_span(event)) is not None:
            self._processor.on_end(self._to_readable_span(finished))

    def start_span(self, parent: TraceContext | None) -> TraceContext:
        """Returns the context of a new span of a request. Its sampling holds for the whole job."""
        trace_id = make_trace_id() if parent is None else parent.trace_id
        context = Context() if parent is None else _to_remote_parent(parent)
        # Samplers see no attributes: what the request is about is not known yet.
        decision = self._sampler.should_sample(context, int(trace_id, 16), "request", SpanKind.SERVER).decision
        other_flags = 0 if parent is None else parent.flags & ~SAMPLED_FLAG
        flag = SAMPLED_FLAG if decision is Decision.RECORD_AND_SAMPLE else 0
        return TraceContext(trace_id, make_span_id(), other_flags | flag)

    async def close(self, timeout_seconds: float) -> None:
        """Exports the waiting spans, for as long as this. The process does not wait for the threads that are left."""
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            # The loop may be closed by then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(flushed.set)

        threading.Thread(target=flush, name="trace-flush", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await flushed.wait()

    def _to_readable_span(self, finished: spans.FinishedSpan) -> ReadableSpan:
        span, is_request = finished.span, finished.span.kind is spans.SpanKind.SERVER
        attributes = {name: value for name, value in span.attributes.items() if value is not None}
        status = Status(StatusCode.UNSET)
        if span.error is not None:
            attributes["error.type"], status = span.error, Status(StatusCode.ERROR)
        return ReadableSpan(
            name=span.name,
            context=_to_span_context(finished.trace, span.span_id),
            parent=_to_span_context(finished.trace, span.parent_id, is_remote=is_request) if span.parent_id else None,
            resource=self.resource,
            attributes=attributes,
            kind=_KINDS[span.kind],
            status=status,
            start_time=round(finished.started_at * _NANOSECONDS),
            end_time=round(finished.ended_at * _NANOSECONDS),
            instrumentation_scope=self._scope,
        )


def _make_resource(instance_id: str) -> Resource:
    """Describes this process. The variables of OpenTelemetry take precedence."""
    defaults = {
        "service.name": DEFAULT_SERVICE_NAME,
        "service.version": version(DEFAULT_SERVICE_NAME),
        "service.instance.id": instance_id,
    }
    return Resource.create(defaults).merge(OTELResourceDetector().detect())


def _to_span_context(trace: TraceContext, span_id: str, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote, TraceFlags(trace.flags))


def _to_remote_parent(parent: TraceContext) -> Context:
    span = NonRecordingSpan(_to_span_context(parent, parent.span_id, is_remote=True))
    return set_span_in_context(span, Context())
