"""Switches traces on, if the environment names a collector and the packages of the extra `otel` are installed."""

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.events import Event
from gateway.telemetry.spans import DropCounter
from gateway.trace_context import TraceContext

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SUPPORTED_PROTOCOL = "http/protobuf"


class Tracer(Protocol):
    """An event sink that exports spans. `start_span` returns the context of a new span of a request."""

    def __call__(self, event: Event, /) -> None: ...

    def start_span(self, parent: TraceContext | None, /) -> TraceContext: ...

    async def close(self, timeout_seconds: float, /) -> None: ...


def make_tracer(
    environ: Mapping[str, str], instance_id: str, warn: Callable[[str], None], count_dropped: DropCounter
) -> Tracer | None:
    """Makes the tracer that the variables OTEL_* configure. Returns None if traces are off, or cannot be exported: this
    never prevents the start."""
    if not is_enabled(environ):
        return None
    if not _find_first(environ, ENDPOINT_VARIABLES).startswith(("http://", "https://")):
        warn("no traces are exported: the endpoint must be a URL like http://collector:4318")
        return None
    protocol = _find_first(environ, PROTOCOL_VARIABLES) or SUPPORTED_PROTOCOL
    if protocol != SUPPORTED_PROTOCOL:
        warn(f"traces are sent as {SUPPORTED_PROTOCOL}, not {protocol}: the endpoint must be the collector's HTTP port")
    try:
        from gateway.telemetry.trace_exporter import TraceExporter

        return TraceExporter(instance_id, count_dropped)
    except ImportError as error:
        warn(f"no traces are exported: the module {error.name} is missing. See docs/traces.md")
    except ValueError as error:
        warn(f"no traces are exported: a variable OTEL_* is invalid: {error}")
    return None


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Returns whether a collector is configured. OTEL_SDK_DISABLED and OTEL_TRACES_EXPORTER can switch traces off."""
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return bool(_find_first(environ, ENDPOINT_VARIABLES)) and not is_disabled and exporters != "none"


def _find_first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := environ.get(name, "").strip())), "")
