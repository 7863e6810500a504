"""Events as lines of a log: JSON for machines, or words for people. No event holds a prompt, image, secret or address.

Writing happens in a thread of its own: a log that is full or slow must never hold up a job. What does not fit is
counted and said later. Lines that clients can provoke, and those of a task that is down, are written once a minute,
with how many they stand for.
"""

import logging
import queue
import sys
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from gateway.events import CallbackReceived, Event, RequestAnswered, TaskRecovered, Trouble, Worth, fault_of
from gateway.telemetry.line_limiter import LineLimiter

MOST_WAITING = 10_000
# How often the thread that writes looks whether a minute is over.
LOOK_SECONDS = 1.0
# An error while a request is answered: the first lines say which request, so that they can be looked into.
MANY, ONE = 10, 1
REQUEST_ERRORS = {"api", "images"}
# Asked for every few seconds by whoever watches over the gateway.
QUIET_ROUTES = {"/livez", "/readyz", "/metrics"}
# Anyone who knows one address can send as many requests as it likes: metrics count them, and what they are worth.
CALLBACK_ROUTES = "/callbacks/"


class Logs:
    """A sink. `close` writes what still waits."""

    def __init__(self, style: str, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._render: Any = (
            structlog.dev.ConsoleRenderer(colors=self._out.isatty())
            if style == "console"
            else structlog.processors.JSONRenderer()
        )
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._limiter = LineLimiter()
        self._dropped = 0
        self._error: BaseException | None = None
        self._thread = self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._write_all, name="logs", daemon=True)
        thread.start()
        return thread

    async def revive(self) -> None:
        """Restarts the writing thread if it has crashed, and raises its error. Waiting lines are written."""
        if not self._thread.is_alive():
            self._thread = self._started()
            raise self._error or RuntimeError("the thread that writes the log has ended")

    def __call__(self, event: Event) -> None:
        if _is_quiet(event):
            return
        fields = msgspec.to_builtins(event)
        name = words_of(type(event))
        if isinstance(event, CallbackReceived):
            self.write_limited((name, event.adapter, event.worth), ONE, "warning", name, **fields)
        elif isinstance(event, Trouble) and event.where in REQUEST_ERRORS:
            self.write_limited((name, event.where, event.what), MANY, "warning", name, **fields)
        elif isinstance(event, Trouble) and event.task is not None:
            self.write_limited((Trouble, event.task), ONE, "warning", name, **fields)
        else:
            if isinstance(event, TaskRecovered):
                self._limiter.forget((Trouble, event.task))
            self.say("warning" if isinstance(event, Trouble) else "info", name, **fields)

    def say(self, level: str, event: str, **fields: Any) -> None:
        self._put(_line(level, event, fields))

    def write_limited(self, kind: Hashable, burst: int, level: str, event: str, **fields: Any) -> None:
        """Writes so many lines of a kind a minute, and then one for all others."""
        line = _line(level, event, fields)
        if self._limiter.admits(kind, line, burst):
            self._put(line)

    def _put(self, line: dict[str, Any]) -> None:
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    @contextmanager
    def hearing_libraries(self) -> Iterator[None]:
        """What they have to say themselves becomes lines like all others, and nothing of theirs is written beside."""
        handler = _Heard(self)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        looked = time.monotonic()
        try:
            while (line := self._next()) is not None:
                self._write_these([line] if line else [])
                if time.monotonic() - looked >= LOOK_SECONDS:
                    looked = time.monotonic()
                    self._write_these(self._limiter.due())
            self._write_these(self._limiter.rest())
        except BaseException as error:  # noqa: BLE001  raised in the event loop, which starts another thread
            self._error = error
            self._dropped += 1

    def _next(self) -> dict[str, Any] | None:
        """Nothing at all (an empty line) if nothing comes for a while, and None at the end."""
        try:
            return self._waiting.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return {}

    def _write_these(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            self._write(line)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write({"level": "warning", "event": "log lines dropped", "lines": dropped})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            print(self._render(None, line["level"], dict(line)), file=self._out, flush=True)
        except (OSError, ValueError):
            self._dropped += 1


class _Heard(logging.Handler):
    """The pattern of a message and the place of a fault are known beforehand; what is filled in may be anybody's."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(logging.WARNING)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        is_fixed = record.name.startswith("uvicorn")
        level, fields = (
            record.levelname.lower(),
            {
                "library": record.name,
                "what": str(record.msg)[:200] if is_fixed else None,
                "place": f"{record.module}.{record.funcName}",
                "fault": fault_of(error) if error else None,
            },
        )
        self._logs.write_limited((level, *fields.values()), ONE, level, "library", **fields)


def _is_quiet(event: Event) -> bool:
    if isinstance(event, CallbackReceived):
        return event.worth not in (Worth.FORGED, Worth.UNKNOWN)
    if not isinstance(event, RequestAnswered):
        return False
    return event.route in QUIET_ROUTES or (event.route.startswith(CALLBACK_ROUTES) and event.status < 500)


def _line(level: str, event: str, fields: dict[str, Any]) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"at": at, "level": level, "event": event, **{k: v for k, v in fields.items() if v is not None}}


def words_of(kind: type[Event]) -> str:
    """JobAccepted → job accepted."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).strip()
