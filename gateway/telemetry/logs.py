"""Events as lines of a log: JSON for machines, or words for people. No event holds a prompt, image, secret or address.

Writing happens in a thread of its own: a log that is full or slow must never hold up a job. What does not fit is
counted and said later.
"""

import logging
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from gateway.events import Event, RequestAnswered, Trouble, fault_of

MOST_WAITING = 10_000
# Asked for every few seconds by whoever watches over the gateway.
QUIET_ROUTES = {"/livez", "/readyz", "/metrics"}


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
        self._dropped = 0
        self._died_of: BaseException | None = None
        self._thread = self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._write_all, name="logs", daemon=True)
        thread.start()
        return thread

    async def revive(self) -> None:
        """Raises what the writing thread has died of, if it has, after starting another one: what waits is written."""
        if not self._thread.is_alive():
            self._thread = self._started()
            raise self._died_of or RuntimeError("the thread that writes the log has ended")

    def __call__(self, event: Event) -> None:
        if isinstance(event, RequestAnswered) and event.route in QUIET_ROUTES:
            return
        fields = msgspec.to_builtins(event)
        level = "warning" if isinstance(event, Trouble) else "info"
        self.say(level, words_of(type(event)), **fields)

    def say(self, level: str, event: str, **fields: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": level, "event": event, **{k: v for k, v in fields.items() if v is not None}}
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
        try:
            while (line := self._waiting.get()) is not None:
                self._write(line)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._write({"level": "warning", "event": "log lines dropped", "lines": dropped})
        except BaseException as error:  # noqa: BLE001  told in the event loop, where another thread is started
            self._died_of = error
            self._dropped += 1

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
        self._logs.say(
            record.levelname.lower(),
            "library",
            library=record.name,
            what=str(record.msg)[:200] if is_fixed else None,
            place=f"{record.module}.{record.funcName}",
            fault=fault_of(error) if error else None,
        )


def words_of(kind: type[Event]) -> str:
    """JobAccepted → job accepted."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).strip()
