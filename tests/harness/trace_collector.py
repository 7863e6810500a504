"""A small OpenTelemetry collector: receives spans over OTLP, or misbehaves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.harness.wait import wait_for_value


class ReceivedSpan(Struct, frozen=True):
    """A span as the collector decodes it. Times are in seconds."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    is_request: bool
    started_at: float
    ended_at: float
    attributes: dict[str, Any]
    resource: dict[str, Any]
    is_error: bool


class TraceCollector:
    """`bodies`: of all requests; `spans`: decoded from them; `status`: of the answers, 0 for none until the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.bodies: list[bytes] = []
        self.spans: list[ReceivedSpan] = []
        self.has_ended = threading.Event()

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a gateway that exports its spans here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def receive(self, body: bytes) -> None:
        self.bodies.append(body)
        self.spans += _decode_spans(body)

    def wait_for_spans(self, trace_id: str, *names: str) -> list[ReceivedSpan]:
        """Returns all spans of the trace once it has these."""
        return wait_for_value(
            lambda: [span for span in self.spans if span.trace_id == trace_id],
            lambda spans: set(names) <= {span.name for span in spans},
            f"the collector has {names} of the trace {trace_id}",
        )

    def wait_for_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Returns all spans of the trace once it has its request, and the job that ended before."""
        return wait_for_value(
            lambda: [span for span in self.spans if span.trace_id == trace_id],
            lambda spans: {"job", "request"} <= {"request" if span.is_request else span.name for span in spans},
            f"the collector has the trace {trace_id}",
        )


def _decode_spans(body: bytes) -> Iterator[ReceivedSpan]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _decode_attributes(group.resource.attributes)
        for span in (span for scope in group.scope_spans for span in scope.spans):
            yield ReceivedSpan(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.kind == trace_pb2.Span.SPAN_KIND_SERVER,
                span.start_time_unix_nano / 1e9,
                span.end_time_unix_nano / 1e9,
                _decode_attributes(span.attributes),
                resource,
                span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            )


def _decode_attributes(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _decode_value(attribute.value) for attribute in attributes}


def _decode_value(value: AnyValue) -> Any:
    if value.WhichOneof("value") == "array_value":
        return [_decode_value(item) for item in value.array_value.values]
    return getattr(value, str(value.WhichOneof("value")))


@contextmanager
def run_trace_collector() -> Iterator[TraceCollector]:
    class CollectorHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not collector.status:
                collector.has_ended.wait()
                return
            if collector.status == 200:
                collector.receive(body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests read what was received."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), CollectorHandler)
    server.daemon_threads = True
    collector = TraceCollector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield collector
    finally:
        collector.has_ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
