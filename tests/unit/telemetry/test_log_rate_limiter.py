"""Log lines that clients can provoke are written once a minute, and all of them are counted."""

import io
import json
import logging
import random
from collections import Counter
from typing import Any

import pytest

from gateway.events import CallbackHandled, CallbackOutcome, ErrorReported, Event, TaskRecovered
from gateway.telemetry import log_rate_limiter
from gateway.telemetry.log_rate_limiter import LogRateLimiter
from gateway.telemetry.logs import REQUEST_ERROR_BURST, EventLogger
from gateway.timeouts_and_intervals import LogTiming
from tests.harness.manual_clock import ManualClock

INTERVAL_SECONDS = LogTiming().repeat_interval_seconds


def log_events(*events: Event, library_messages: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    out = io.StringIO()
    logger = EventLogger("json", out)
    for event in events:
        logger(event)
    with logger.capture_library_logs():
        for message in library_messages:
            logging.getLogger("uvicorn.error").warning(message)
    logger.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_first_line_of_kind_is_written_at_once_then_one_per_minute() -> None:
    clock = ManualClock()
    limiter = LogRateLimiter(INTERVAL_SECONDS, clock)
    assert [limiter.try_admit("a", {"n": number}, 1) for number in range(5)] == [True] + [False] * 4
    assert limiter.try_admit("b", {}, 1)
    assert limiter.pop_due_lines() == []
    clock.now += INTERVAL_SECONDS
    assert limiter.pop_due_lines() == [{"n": 4, "repeated": 4}]
    assert not limiter.try_admit("a", {"n": 5}, 1), "the line of this minute was written"
    assert limiter.pop_due_lines() == []
    clock.now += INTERVAL_SECONDS
    assert limiter.pop_due_lines() == [{"n": 5, "repeated": 1}]
    clock.now += INTERVAL_SECONDS
    assert limiter.pop_due_lines() == []
    assert limiter._kinds == {}
    assert limiter.try_admit("a", {}, 1)


@pytest.mark.parametrize("seed", range(5))
def test_every_event_is_counted_in_few_lines(seed: int) -> None:
    random_numbers, clock = random.Random(seed), ManualClock()  # noqa: S311  a repeatable one
    limiter, event_counts, line_counts = LogRateLimiter(INTERVAL_SECONDS, clock), Counter[str](), Counter[str]()
    lines = 0
    for _ in range(5_000):
        clock.now += random_numbers.random() * 0.2
        kind = random_numbers.choice("abc")
        event_counts[kind] += 1
        ready = [{"kind": kind}] if limiter.try_admit(kind, {"kind": kind}, 1) else []
        for line in (*ready, *limiter.pop_due_lines()):
            line_counts[line["kind"]] += line.get("repeated", 1)
            lines += 1
    for line in limiter.pop_all_lines():
        line_counts[line["kind"]] += line["repeated"]
    assert line_counts == event_counts
    assert lines <= 3 * (2 + (clock.now - 1_000.0) / INTERVAL_SECONDS)


def test_excess_kinds_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rate_limiter, "MAX_KINDS", 10)
    limiter = LogRateLimiter(INTERVAL_SECONDS, ManualClock())
    assert sum(limiter.try_admit(number, {}, 1) for number in range(1_000)) == 11
    assert len(limiter._kinds) == 11
    assert [line["repeated"] for line in limiter.pop_all_lines()] == [989]


def test_unremarkable_callbacks_are_not_logged() -> None:
    events = [
        CallbackHandled(adapter="runapi", outcome=outcome, job="job_1")
        for outcome in CallbackOutcome
        for _ in range(100)
    ]
    lines = log_events(*events)
    assert {(line["event"], line["outcome"], line.get("repeated", 1)) for line in lines} == {
        ("callback handled", outcome, times) for outcome in ("forged", "unknown") for times in (1, 99)
    }
    assert all(line["level"] == "warning" for line in lines)


@pytest.mark.parametrize("component", ["api", "storage", "store"])
def test_request_errors_are_logged_for_first_requests_then_limited(component: str) -> None:
    errors = (ErrorReported(component=component, message="KeyError", request=f"req_{n}") for n in range(100))
    lines = log_events(*errors)
    assert [line["request"] for line in lines[:REQUEST_ERROR_BURST]] == [f"req_{n}" for n in range(REQUEST_ERROR_BURST)]
    assert [line["repeated"] for line in lines[REQUEST_ERROR_BURST:]] == [100 - REQUEST_ERROR_BURST]


def test_internal_errors_are_never_limited() -> None:
    assert len(log_events(*(ErrorReported(component="audit", message="wrong") for _ in range(20)))) == 20


def test_failing_task_is_one_line_until_it_recovers() -> None:
    failure = ErrorReported(component="storage", message="there is no room", task="storage")
    recovered = TaskRecovered(task="storage", failures=40, seconds=120.0)
    other = ErrorReported(component="store", message="Redis did not answer", task="engine.publish_health")
    lines = log_events(*[failure] * 40, recovered, failure, failure, other)
    assert [(line["event"], line.get("task"), line.get("repeated", 1)) for line in lines] == [
        ("error reported", "storage", 1),
        ("task recovered", "storage", 1),
        ("error reported", "storage", 1),
        ("error reported", "engine.publish_health", 1),
        ("error reported", "storage", 1),
    ]


def test_repeated_library_message_is_logged_once() -> None:
    lines = log_events(library_messages=("Invalid HTTP request received.",) * 1_000 + ("Another.",))
    assert [(line["message"], line.get("repeated", 1)) for line in lines] == [
        ("Invalid HTTP request received.", 1),
        ("Another.", 1),
        ("Invalid HTTP request received.", 999),
    ]


def test_held_lines_are_written_after_interval() -> None:
    out = io.StringIO()
    logger = EventLogger("json", out, LogTiming(repeat_interval_seconds=0.2, flush_interval_seconds=0.05))
    for _ in range(3):
        logger(CallbackHandled(adapter="runapi", outcome=CallbackOutcome.FORGED))
    remaining_checks = 200
    while out.getvalue().count("\n") < 2 and remaining_checks:
        remaining_checks -= 1
        logger._thread.join(0.05)
    assert [json.loads(line).get("repeated") for line in out.getvalue().splitlines()] == [None, 2]
    logger.close()
