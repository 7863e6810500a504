"""Without debug lines, a successful job has one line, and everything that needs attention still has its own."""

import io
import json
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.events import (
    AttemptEnded,
    AttemptRecorded,
    Event,
    FailoverStarted,
    JobAccepted,
    JobEnded,
    LedgerEntryPosted,
    PriceMismatch,
    RequestCompleted,
)
from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from gateway.telemetry.logs import EventLogger
from providers.faults import FaultKind
from providers.orders import Cell, Operation

CELL = Cell(Operation.GENERATE, "1k", "high")
JOB: dict[str, Any] = {"job": "job_1", "cell": CELL, "images": 1, "config": "c"}
TEAM_AND_MODEL: dict[str, Any] = {"team": "a", "model": "m"}
ATTEMPT: dict[str, Any] = JOB | {"attempt": 1, "seller": "s"}
DELIVERY: dict[str, Any] = {"delivered": 1, "seconds": 1.0, "fault": None}
ACCEPTED = JobAccepted(**JOB, **TEAM_AND_MODEL, policy="cheapest")
RECORDED = AttemptRecorded(**ATTEMPT)
ATTEMPT_ENDED = AttemptEnded(**ATTEMPT, **TEAM_AND_MODEL, **DELIVERY)
CAPTURE = LedgerEntryPosted(**ATTEMPT, **TEAM_AND_MODEL, line=LedgerLine.CAPTURE, amount=50_000, day="2026-11-27")
JOB_ENDED = JobEnded(
    **JOB, **TEAM_AND_MODEL, **DELIVERY, state=JobState.COMPLETED, sellers=("s",), captured_amount=50_000
)
REQUEST = RequestCompleted(id="req_1", method="POST", route="/v1/images/generations", status=200, seconds=1.0)
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
        FailoverStarted(
            job="job_1", attempt=2, from_seller="s", to_seller="t", reason=FaultKind.UNAVAILABLE, config=""
        ),
        PriceMismatch(
            job="job_1", attempt=1, seller="s", cell=CELL, expected_price=50_000, charged_price=60_000, config=""
        ),
        replace(CAPTURE, amount=-50_000),
        *(replace(CAPTURE, line=line) for line in LedgerLine if line is not LedgerLine.CAPTURE),
    ],
    ids=lambda event: f"{type(event).__name__} {getattr(event, 'line', '')}",
)
def test_what_needs_attention_is_logged_at_info(event: Event) -> None:
    assert [level for level, _ in log_levels(event, has_debug_lines=False)] == ["info"]
