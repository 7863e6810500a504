"""The variables OTEL_* of the environment: they switch traces on, and select what is sampled and sent."""

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.telemetry.trace_exporter import TraceExporter
from gateway.telemetry.tracing import is_enabled, make_tracer
from gateway.trace_context import TraceContext
from tests.harness.ports import reserve_port
from tests.harness.trace_collector import run_trace_collector
from tests.harness.wait import GUARD_SECONDS
from tests.unit.telemetry.sample_events import SELLER_CALL

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = (TraceContext(TRACE_ID, SPAN_ID, flags) for flags in (1, 0))
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_SERVICE_NAME": "images", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE "}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_endpoint_switches_traces_on(environ: dict[str, str], expected: bool) -> None:
    assert is_enabled(environ) is expected


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of an exporter whose collector is gone."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{reserve_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    return monkeypatch


def ignore_count(reason: str, count: int) -> None:
    """Counts nothing."""


def start_span(parent: TraceContext | None) -> TraceContext:
    exporter = TraceExporter("replica-1", ignore_count)
    try:
        return exporter.start_span(parent)
    finally:
        asyncio.run(exporter.close(1.0))


@pytest.mark.parametrize("parent", [SAMPLED, NOT_SAMPLED, TraceContext(TRACE_ID, SPAN_ID, 3)])
def test_span_of_a_request_continues_the_client_trace(environ: pytest.MonkeyPatch, parent: TraceContext) -> None:
    started = start_span(parent)
    assert (started.trace_id, started.flags) == (parent.trace_id, parent.flags)
    assert started.span_id != parent.span_id


@pytest.mark.parametrize(
    ("sampler", "argument", "sampled_parents"),
    [
        ("parentbased_always_on", "", (True, False, True)),
        ("always_off", "", (False, False, False)),
        ("always_on", "", (True, True, True)),
        ("parentbased_traceidratio", "0.0", (True, False, False)),
        ("traceidratio", "0.0", (False, False, False)),
    ],
)
def test_sampler_decides_for_client_traces_and_new_ones(
    environ: pytest.MonkeyPatch, sampler: str, argument: str, sampled_parents: tuple[bool, bool, bool]
) -> None:
    environ.setenv("OTEL_TRACES_SAMPLER", sampler)
    if argument:
        environ.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    assert tuple(start_span(parent).is_sampled for parent in (SAMPLED, NOT_SAMPLED, None)) == sampled_parents


def test_queue_is_bounded_never_waits_and_counts_what_it_drops(
    environ: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each span is either exported, which fails here, or counted as dropped."""
    environ.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "50")
    environ.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    environ.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    dropped: Counter[str] = Counter()
    exporter = TraceExporter("replica-1", lambda reason, count: dropped.update({reason: count}))
    event = replace(SELLER_CALL, traceparent=str(SAMPLED))
    started_at = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(2_000):
            exporter(event)
    assert time.monotonic() - started_at < 20.0, "195 batches of which each waits for the collector take longer"
    assert "Queue full, dropping spans." in caplog.messages
    assert "Queue full, dropping Span." not in caplog.messages, "the library drops none uncounted"
    assert 0 < dropped["queue_full"] <= 2_000 - 50
    # A thread that still retries would draw random numbers during later tests.
    asyncio.run(exporter.close(GUARD_SECONDS))
    assert dropped.total() == 2_000
    assert dropped["export_failed"] >= 50


def test_exported_spans_are_not_counted_as_dropped(environ: pytest.MonkeyPatch) -> None:
    dropped: Counter[str] = Counter()
    with run_trace_collector() as collector:
        for name, value in collector.environ.items():
            environ.setenv(name, value)
        environ.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
        exporter = TraceExporter("replica-1", lambda reason, count: dropped.update({reason: count}))
        for _ in range(100):
            exporter(replace(SELLER_CALL, traceparent=str(SAMPLED)))
        asyncio.run(exporter.close(GUARD_SECONDS))
        assert len(collector.spans) == 100
    assert dropped == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000"),
    ],
)
def test_invalid_variable_switches_traces_off_with_a_warning(
    environ: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environ.setenv(name, value)
    warnings: list[str] = []
    assert make_tracer(ENDPOINT, "replica-1", warnings.append, ignore_count) is None
    assert len(warnings) == 1
    assert warnings[0].startswith("no traces are exported: a variable OTEL_* is invalid: ")


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "//collector"])
def test_endpoint_that_is_not_a_url_switches_traces_off_with_a_warning(endpoint: str) -> None:
    warnings: list[str] = []
    assert make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, "replica-1", warnings.append, ignore_count) is None
    assert warnings == ["no traces are exported: the endpoint must be a URL like http://collector:4318"]


def test_other_protocol_is_named_in_a_warning(environ: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    tracer: Any = make_tracer(
        ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "replica-1", warnings.append, ignore_count
    )
    asyncio.run(tracer.close(1.0))
    assert warnings == ["traces are sent as http/protobuf, not grpc: the endpoint must be the collector's HTTP port"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("image-gateway", "replica-1")),
        ({"OTEL_SERVICE_NAME": "images"}, ("images", "replica-1")),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=pictures,service.instance.id=one"}, ("pictures", "one")),
    ],
)
def test_names_of_service_and_replica_can_be_configured(
    environ: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[str, str]
) -> None:
    for name, value in variables.items():
        environ.setenv(name, value)
    exporter = TraceExporter("replica-1", ignore_count)
    asyncio.run(exporter.close(1.0))
    attributes = exporter.resource.attributes
    assert (attributes["service.name"], attributes["service.instance.id"]) == expected
