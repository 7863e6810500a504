"""Without debug lines, a successful job has one line, and everything that needs attention still has its own."""

import io
import json

import pytest
from msgspec.structs import replace

from gateway.events import Event
from gateway.jobs.transition_tables import LedgerLine
from gateway.telemetry.logs import EventLogger
from providers.faults import FaultKind
from tests.unit.telemetry.sample_events import (
    ACCEPTED,
    ATTEMPT_ENDED,
    CAPTURE,
    FAILOVER,
    JOB_ENDED,
    MODERATION_ANSWERED,
    PRICE_MISMATCH,
    RECORDED,
    REQUEST,
)

SUCCESS = (ACCEPTED, RECORDED, ATTEMPT_ENDED, CAPTURE, JOB_ENDED, REQUEST)


def log_levels(*events: Event, has_debug_lines: bool) -> list[tuple[str, str]]:
    out = io.StringIO()
    logger = EventLogger("json", out, has_debug_lines=has_debug_lines)
    for event in events:
        logger(event)
    logger.close()
    return [(line["level"], line["event"]) for line in map(json.loads, out.getvalue().splitlines())]


def test_successful_job_and_its_request_have_one_line_each() -> None:
    assert log_levels(*SUCCESS, has_debug_lines=False) == [("info", "job ended"), ("info", "request completed")]


def test_debug_adds_the_steps_of_the_job() -> None:
    levels = log_levels(*SUCCESS, has_debug_lines=True)
    assert [event for level, event in levels if level == "debug"] == [
        "job accepted",
        "attempt recorded",
        "attempt ended",
        "ledger entry posted",
    ]
    assert len(levels) == len(SUCCESS)


@pytest.mark.parametrize(
    "event",
    [
        replace(ATTEMPT_ENDED, fault=FaultKind.RESPONSE_LOST, delivered=0),
        FAILOVER,
        PRICE_MISMATCH,
        replace(CAPTURE, amount=-50_000),
        *(replace(CAPTURE, line=line) for line in LedgerLine if line is not LedgerLine.CAPTURE),
    ],
    ids=lambda event: f"{type(event).__name__} {getattr(event, 'line', '')}",
)
def test_what_needs_attention_is_logged_at_info(event: Event) -> None:
    assert [level for level, _ in log_levels(event, has_debug_lines=False)] == ["info"]


def test_answers_of_moderation_hooks_have_the_level_of_their_outcome() -> None:
    """While a hook is down, each request would write a line."""
    refused = replace(MODERATION_ANSWERED, outcome="refused", is_allowed=False)
    lost = replace(MODERATION_ANSWERED, outcome="timeout", status=None, is_allowed=False)
    levels = log_levels(MODERATION_ANSWERED, refused, refused, lost, lost, lost, has_debug_lines=True)
    assert [level for level, _ in levels] == ["debug", "info", "info", "warning", "warning"]
