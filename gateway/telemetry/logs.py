"""Logging of events, as JSON or text. No event contains a prompt, image, secret or address.

A successful job has one line, and each request another. The steps of a job are lines of the level debug, which are
written only on demand.

A thread of its own writes, so that a full or slow log never delays a job. After each write it rests for a moment, and
then writes all lines that wait together. Lines that do not fit into its queue are dropped and counted; a later line
reports the number. Lines that clients can provoke, and those of a task that is down, are limited to one a minute, which
says how many lines it stands for.
"""

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import msgspec
import structlog

from gateway.engine.account_events import AccountRefused
from gateway.engine.moderation_client import ALLOWED, REFUSED
from gateway.engine.moderation_events import ModerationAnswered
from gateway.events import (
    AttemptEnded,
    AttemptRecorded,
    CallbackHandled,
    CallbackOutcome,
    ErrorReported,
    Event,
    ImageStored,
    JobAccepted,
    LedgerEntryPosted,
    OrderAccepted,
    OrderObserved,
    OrderSlotGranted,
    RateLimitExceeded,
    RequestCompleted,
    SellerCallEnded,
    StoreCommitted,
    TaskRecovered,
    describe_exception,
    get_event_name,
)
from gateway.jobs.transition_tables import LedgerLine
from gateway.telemetry.log_rate_limiter import LogRateLimiter
from gateway.timeouts_and_intervals import LogTiming
from gateway.webhooks.webhook_events import WebhookAttempted

MAX_QUEUED_LINES = 10_000
# The burst for errors in requests. It is larger, since each line names its request, which operators investigate.
REQUEST_ERROR_BURST, DEFAULT_BURST = 10, 1
# Monitoring requests these paths every few seconds.
QUIET_ROUTES = {"/livez", "/readyz", "/metrics"}
# Clients can send any number of requests to a callback URL: metrics count them by outcome.
CALLBACK_ROUTES = "/callbacks/"
# The messages of these libraries have their variable parts in arguments.
CONSTANT_TEXT_LIBRARIES = ("uvicorn", "opentelemetry")


class EventLogger:
    """An event sink that writes log lines. `close` writes the lines that still wait."""

    def __init__(
        self, style: str, out: TextIO | None = None, timing: LogTiming = LogTiming(), *, has_debug_lines: bool = False
    ) -> None:
        self._timing = timing
        self._out = out or sys.stderr
        self._render = _make_console_renderer(self._out) if style == "console" else _render_json
        self._has_debug_lines = has_debug_lines
        unwritten_levels = (None,) if has_debug_lines else (None, "debug")
        self._unwritten_types = {kind for kind, level in _LEVELS.items() if level in unwritten_levels}
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._limiter = LogRateLimiter(timing.repeat_interval_seconds)
        self._dropped = 0
        self._error: BaseException | None = None
        self._thread = self._start_thread()

    def _start_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._run_writer, name="event-log", daemon=True)
        thread.start()
        return thread

    async def restart_thread(self) -> None:
        """Restarts the writer thread if it has crashed, and raises its error. The waiting lines are still written."""
        if not self._thread.is_alive():
            self._thread = self._start_thread()
            raise self._error or RuntimeError("the log writer thread has ended")

    def __call__(self, event: Event) -> None:
        if type(event) in self._unwritten_types:
            return
        level = get_event_level(event)
        if level is None or (level == "debug" and not self._has_debug_lines):
            return
        fields = msgspec.to_builtins(event)
        event_text = get_event_name(type(event))
        if isinstance(event, CallbackHandled):
            self.log_limited((event_text, event.adapter, event.outcome), DEFAULT_BURST, level, event_text, **fields)
        elif isinstance(event, ErrorReported) and event.request is not None:
            self.log_limited(
                (event_text, event.component, event.message), REQUEST_ERROR_BURST, level, event_text, **fields
            )
        elif isinstance(event, ModerationAnswered) and level == "warning":
            kind = event_text, event.hook, event.team, event.outcome
            self.log_limited(kind, DEFAULT_BURST, level, event_text, **fields)
        elif isinstance(event, ErrorReported) and event.task is not None:
            self.log_limited((ErrorReported, event.task), DEFAULT_BURST, level, event_text, **fields)
        else:
            if isinstance(event, TaskRecovered):
                self._limiter.reset_kind((ErrorReported, event.task))
            self.log(level, event_text, **fields)

    def log(self, level: str, event: str, **fields: Any) -> None:
        self._enqueue(_make_line(level, event, fields))

    def log_limited(self, kind: Hashable, burst: int, level: str, event: str, **fields: Any) -> None:
        """Writes up to `burst` lines of a kind each minute. One more line stands for all others."""
        line = _make_line(level, event, fields)
        if self._limiter.try_admit(kind, line, burst):
            self._enqueue(line)

    def _enqueue(self, line: dict[str, Any]) -> None:
        if self._queue.qsize() < MAX_QUEUED_LINES:
            self._queue.put(line)
        else:
            self._dropped += 1

    @contextmanager
    def capture_library_logs(self) -> Iterator[None]:
        """Writes the warnings of libraries to this log, and nowhere else."""
        handler = _LibraryLogHandler(self)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=self._timing.close_timeout_seconds)

    def _run_writer(self) -> None:
        flushed_at = time.monotonic()
        try:
            while (lines := self._take_lines()) is not None:
                self._write_lines(lines)
                if time.monotonic() - flushed_at >= self._timing.flush_interval_seconds:
                    flushed_at = time.monotonic()
                    self._write_lines(self._limiter.pop_due_lines())
                time.sleep(self._timing.gather_interval_seconds)
            self._write_lines(self._limiter.pop_all_lines())
        except BaseException as error:  # noqa: BLE001  `restart_thread` raises it in the event loop
            self._error = error

    def _take_lines(self) -> list[dict[str, Any]] | None:
        """Waits for a line and returns all that are queued: none if none comes for a while. Returns None at the end."""
        lines: list[dict[str, Any]] = []
        with suppress(queue.Empty):
            while line := self._queue.get(block=not lines, timeout=self._timing.flush_interval_seconds):
                lines.append(line)
            if not lines:
                return None
            # No line follows the end, which is taken again after these lines.
            self._queue.put(None)
        return lines

    def _write_lines(self, lines: list[dict[str, Any]]) -> None:
        """Writes all lines at once, and how many were dropped before them."""
        dropped, self._dropped, is_written = self._dropped, 0, False
        report = [{"level": "warning", "event": "log lines dropped", "lines": dropped}] if dropped else []
        try:
            text = "".join([f"{self._render(line)}\n" for line in (*lines, *report)])
            with suppress(OSError, ValueError):
                self._out.write(text)
                self._out.flush()
                is_written = True
        finally:
            if not is_written:
                self._dropped += dropped + len(lines)


class _LibraryLogHandler(logging.Handler):
    """Logs a library's warnings without their arguments, which may contain text of clients.

    Even the message is logged only for libraries whose messages are constant.
    """

    def __init__(self, logger: EventLogger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        is_constant_text = record.name.startswith(CONSTANT_TEXT_LIBRARIES)
        level, fields = (
            record.levelname.lower(),
            {
                "library": record.name,
                "message": str(record.msg)[:200] if is_constant_text else None,
                "location": f"{record.module}.{record.funcName}",
                "error": describe_exception(error) if error else None,
            },
        )
        self._logger.log_limited((level, *fields.values()), DEFAULT_BURST, level, "library", **fields)


def get_event_level(event: Event) -> str | None:
    """Returns the level of an event's line; None if it has no line. Steps of a job that need no attention are at debug:
    its last line, `job ended`, names the sellers and the amount. What failed, or cost more than it delivered, is at
    info."""
    level = _LEVELS.get(type(event), "info")
    return level(event) if callable(level) else level


def _get_request_level(event: RequestCompleted) -> str | None:
    is_quiet = event.route in QUIET_ROUTES or (event.route.startswith(CALLBACK_ROUTES) and event.status < 500)
    return None if is_quiet else "info"


def _get_callback_level(event: CallbackHandled) -> str | None:
    return "warning" if event.outcome in (CallbackOutcome.FORGED, CallbackOutcome.UNKNOWN) else None


def _get_attempt_level(event: AttemptEnded) -> str:
    return "debug" if event.fault is None and not event.seller_notes else "info"


def _get_ledger_level(event: LedgerEntryPosted) -> str:
    return "debug" if event.line is LedgerLine.CAPTURE and event.amount >= 0 else "info"


def _get_webhook_level(event: WebhookAttempted) -> str:
    return "debug" if event.delivery_status in ("pending", "delivered") else "info"


def _get_moderation_level(event: ModerationAnswered) -> str:
    return {ALLOWED: "debug", REFUSED: "info"}.get(event.outcome, "warning")


# Events without a row have the level info.
_LEVELS: dict[type[Event], str | Callable[[Any], str | None] | None] = {
    RequestCompleted: _get_request_level,
    StoreCommitted: None,
    SellerCallEnded: None,
    CallbackHandled: _get_callback_level,
    ErrorReported: "warning",
    AccountRefused: "warning",
    RateLimitExceeded: "debug",
    OrderSlotGranted: "debug",
    OrderAccepted: "debug",
    OrderObserved: "debug",
    ImageStored: "debug",
    JobAccepted: "debug",
    AttemptRecorded: "debug",
    AttemptEnded: _get_attempt_level,
    LedgerEntryPosted: _get_ledger_level,
    WebhookAttempted: _get_webhook_level,
    ModerationAnswered: _get_moderation_level,
}


def _render_json(line: dict[str, Any]) -> str:
    return json.dumps(line)


def _make_console_renderer(out: TextIO) -> Callable[[dict[str, Any]], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty())
    return lambda line: str(renderer(None, line["level"], dict(line)))


def _make_line(level: str, event: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Makes a line with the event's own time, if it has one."""
    at = fields.pop("at", None)
    return {
        "at": _format_time(time.time() if at is None else at),
        "level": level,
        "event": event,
        **{name: value for name, value in fields.items() if value is not None},
    }


def _format_time(at: float) -> str:
    second, milliseconds = divmod(round(at * 1_000), 1_000)
    return f"{_format_second(second)}.{milliseconds:03}+00:00"


@lru_cache(maxsize=64)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
