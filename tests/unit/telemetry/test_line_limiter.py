"""What anybody outside can provoke is written once a minute, and every one of it is accounted for."""

import io
import json
import logging
import random
from collections import Counter
from typing import Any

import pytest

from gateway.events import CallbackReceived, Event, TaskRecovered, Trouble, Worth
from gateway.telemetry import line_limiter
from gateway.telemetry.line_limiter import INTERVAL_SECONDS, LineLimiter
from gateway.telemetry.logs import MANY, Logs


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def lines_of(*events: Event, library: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    out = io.StringIO()
    logs = Logs("json", out)
    for event in events:
        logs(event)
    with logs.hearing_libraries():
        for message in library:
            logging.getLogger("uvicorn.error").warning(message)
    logs.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_first_line_of_a_kind_is_written_at_once_and_the_others_as_one_a_minute() -> None:
    clock = Clock()
    limiter = LineLimiter(clock)
    assert [limiter.admits("a", {"n": number}, 1) for number in range(5)] == [True] + [False] * 4
    assert limiter.admits("b", {}, 1)
    assert limiter.due() == []
    clock.now += INTERVAL_SECONDS
    assert limiter.due() == [{"n": 4, "times": 4}]
    assert not limiter.admits("a", {"n": 5}, 1), "that was this minute's"
    assert limiter.due() == []
    clock.now += INTERVAL_SECONDS
    assert limiter.due() == [{"n": 5, "times": 1}]
    clock.now += INTERVAL_SECONDS
    assert limiter.due() == []
    assert limiter._kinds == {}
    assert limiter.admits("a", {}, 1)


@pytest.mark.parametrize("seed", range(5))
def test_every_event_is_in_one_line_and_lines_are_few(seed: int) -> None:
    chance, clock = random.Random(seed), Clock()  # noqa: S311  a repeatable one
    limiter, told, written = LineLimiter(clock), Counter[str](), Counter[str]()
    lines = 0
    for _ in range(5_000):
        clock.now += chance.random() * 0.2
        kind = chance.choice("abc")
        told[kind] += 1
        ready = [{"kind": kind}] if limiter.admits(kind, {"kind": kind}, 1) else []
        for line in (*ready, *limiter.due()):
            written[line["kind"]] += line.get("times", 1)
            lines += 1
    for line in limiter.rest():
        written[line["kind"]] += line["times"]
    assert written == told
    assert lines <= 3 * (2 + (clock.now - 1_000.0) / INTERVAL_SECONDS)


def test_kinds_without_end_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_limiter, "MAX_KINDS", 10)
    limiter = LineLimiter(Clock())
    assert sum(limiter.admits(number, {}, 1) for number in range(1_000)) == 11
    assert len(limiter._kinds) == 11
    assert [line["times"] for line in limiter.rest()] == [989]


def test_callbacks_that_nobody_has_to_know_of_are_no_lines() -> None:
    events = [CallbackReceived(adapter="runapi", worth=worth, job="job_1") for worth in Worth for _ in range(100)]
    lines = lines_of(*events)
    assert {(line["event"], line["worth"], line.get("times", 1)) for line in lines} == {
        ("callback received", worth, times) for worth in ("forged", "unknown") for times in (1, 99)
    }
    assert all(line["level"] == "warning" for line in lines)


def test_faults_in_requests_are_written_with_the_first_requests_that_met_them() -> None:
    lines = lines_of(*(Trouble(where="api", what="KeyError", request=f"req_{n}") for n in range(100)))
    assert [line["request"] for line in lines[:MANY]] == [f"req_{n}" for n in range(MANY)]
    assert [line["times"] for line in lines[MANY:]] == [100 - MANY]


def test_troubles_that_nobody_outside_can_provoke_are_all_written() -> None:
    assert len(lines_of(*(Trouble(where="audit", what="wrong") for _ in range(20)))) == 20


def test_task_that_is_down_is_one_line_until_it_recovers() -> None:
    failure = Trouble(where="storage", what="there is no room", task="storage")
    recovered = TaskRecovered(task="storage", failures=40, seconds=120.0)
    other = Trouble(where="store", what="Redis did not answer", task="engine.share")
    lines = lines_of(*[failure] * 40, recovered, failure, failure, other)
    assert [(line["event"], line.get("task"), line.get("times", 1)) for line in lines] == [
        ("trouble", "storage", 1),
        ("task recovered", "storage", 1),
        ("trouble", "storage", 1),
        ("trouble", "engine.share", 1),
        ("trouble", "storage", 1),
    ]


def test_what_a_library_says_again_and_again_is_said_once() -> None:
    lines = lines_of(library=("Invalid HTTP request received.",) * 1_000 + ("Another.",))
    assert [(line["what"], line.get("times", 1)) for line in lines] == [
        ("Invalid HTTP request received.", 1),
        ("Another.", 1),
        ("Invalid HTTP request received.", 999),
    ]


def test_what_is_held_is_written_when_its_minute_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_limiter, "INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr("gateway.telemetry.logs.LOOK_SECONDS", 0.05)
    out = io.StringIO()
    logs = Logs("json", out)
    for _ in range(3):
        logs(CallbackReceived(adapter="runapi", worth=Worth.FORGED))
    deadline = 200
    while out.getvalue().count("\n") < 2 and deadline:
        deadline -= 1
        logs._thread.join(0.05)
    assert [json.loads(line).get("times") for line in out.getvalue().splitlines()] == [None, 2]
    logs.close()
