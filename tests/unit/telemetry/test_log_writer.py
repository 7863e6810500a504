"""The log thread writes lines together, and counts those that it could not write."""

import io
import json

from gateway.telemetry.logs import EventLogger
from gateway.timeouts_and_intervals import LogTiming
from tests.harness.wait import wait_until


class CountingOutput(io.StringIO):
    """An output that counts writes, and fails while `is_broken`."""

    write_count = 0
    is_broken = False

    def write(self, text: str) -> int:
        self.write_count += 1
        if self.is_broken:
            raise OSError("the disk is full")
        return super().write(text)

    def read_lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


def test_lines_that_wait_are_written_together() -> None:
    out = CountingOutput()
    logger = EventLogger("json", out, LogTiming(gather_interval_seconds=0.2))
    for number in range(1_000):
        logger.log("info", "tested", number=number)
    logger.close()
    assert [line["number"] for line in out.read_lines()] == list(range(1_000))
    # The first line is written at once. A slow machine may need some more writes.
    assert out.write_count < 100


def test_first_line_after_a_rest_is_written_at_once() -> None:
    out = CountingOutput()
    logger = EventLogger("json", out, LogTiming(gather_interval_seconds=60.0, flush_interval_seconds=60.0))
    logger.log("info", "tested")
    wait_until(lambda: out.write_count == 1, "the line is written before the rest ends")
    assert [line["event"] for line in out.read_lines()] == ["tested"]


def test_lines_of_a_failed_write_are_counted() -> None:
    out = CountingOutput()
    logger = EventLogger("json", out, LogTiming(gather_interval_seconds=0.01, flush_interval_seconds=60.0))
    out.is_broken = True
    for _ in range(50):
        logger.log("info", "lost")
    wait_until(lambda: logger._dropped == 50, "all lines are counted")
    out.is_broken = False
    logger.log("info", "kept")
    logger.close()
    assert [(line["event"], line.get("lines")) for line in out.read_lines()] == [
        ("kept", None),
        ("log lines dropped", 50),
    ]
