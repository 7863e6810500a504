"""Exports spans to an OpenTelemetry collector. Only `tracing.py` imports this module, since its packages are optional.

A thread of OpenTelemetry's SDK sends the spans in batches. Spans that do not fit into its queue, and batches that the
collector does not accept, are dropped and counted, so that no request or job ever waits for the collector.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
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
from gateway.telemetry.spans import EXPORT_FAILED, QUEUE_FULL, DropCounter
from gateway.trace_context import SAMPLED_FLAG, TraceContext, make_span_id, make_trace_id

DEFAULT_SERVICE_NAME, DEFAULT_QUEUE_SIZE = "image-gateway", "2048"
# The log shows the text of lines by this library.
_LOGGER = logging.getLogger("opentelemetry.queue")
_NANOSECONDS = 1_000_000_000
_KINDS = {
    spans.SpanKind.SERVER: SpanKind.SERVER,
    spans.SpanKind.CLIENT: SpanKind.CLIENT,
    spans.SpanKind.INTERNAL: SpanKind.INTERNAL,
}


class CountingExporter(OTLPSpanExporter):
    """Counts the spans that were taken out of the queue, and those that the collector did not accept."""

    def __init__(self, count_dropped: DropCounter) -> None:
        super().__init__()
        self._count_dropped = count_dropped
        self.taken_count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken_count += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._count_dropped(EXPORT_FAILED, len(spans))
        return result


class TraceExporter:
    """An event sink: exports the spans that events end. The variables OTEL_* configure it.

    `instance_id`: names this replica, since the spans of one job may come from several. Raises ValueError if a variable
    is invalid.
    """

    def __init__(self, instance_id: str, count_dropped: DropCounter) -> None:
        # Python prints the log of a library without a handler to standard error, also before and after the gateway
        # captures it.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        provider = TracerProvider(resource=_make_resource(instance_id), shutdown_on_exit=False)
        self._sampler, self.resource = provider.sampler, provider.resource
        self._scope = InstrumentationScope(DEFAULT_SERVICE_NAME, version(DEFAULT_SERVICE_NAME))
        self._count_dropped, self._exporter = count_dropped, CountingExporter(count_dropped)
        self._queue_size, self._queued_count = int(os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE) or DEFAULT_QUEUE_SIZE), 0
        self._processor = BatchSpanProcessor(self._exporter, self._queue_size)

    def __call__(self, event: Event) -> None:
        if (finished := spans.make_finished_span(event)) is None:
            return
        # The SDK's own queue drops without counting, so that it must never be full.
        if self._queued_count - self._exporter.taken_count >= self._queue_size:
            _LOGGER.warning("Queue full, dropping spans.")
            return self._count_dropped(QUEUE_FULL, 1)
        self._queued_count += 1
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
