"""Prints findings for people: one paragraph each, with what to change below it."""

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gateway.commands.doctor.doctor_finding import DoctorFinding, Status

STYLES = {Status.OK: "green", Status.SKIPPED: "dim", Status.WARNING: "bold yellow", Status.FAILED: "bold red"}
# The status begins each line, so that a list can be read from top to bottom.
STATUS_WIDTH = max(map(len, Status)) + 2
# A narrower terminal gets the text below its heading instead of beside it.
MIN_WIDTH_FOR_COLUMNS, NARROW_INDENT = 72, 2
COUNT_WORDS = {Status.FAILED: "failed", Status.WARNING: "warnings", Status.SKIPPED: "skipped", Status.OK: "ok"}


def print_findings(console: Console, findings: Sequence[DoctorFinding]) -> None:
    check_width = max((len(finding.check) for finding in findings), default=0) + 2
    for finding in findings:
        console.print(_format_finding(finding, check_width, console.width), soft_wrap=True)
    counts = {status: sum(finding.status is status for finding in findings) for status in reversed(Status)}
    summary = ", ".join(f"{count} {_format_count(status, count)}" for status, count in counts.items() if count)
    console.print(Text(f"\n{summary}", style="bold"), soft_wrap=True)


def _format_count(status: Status, count: int) -> str:
    return COUNT_WORDS[status].removesuffix("s") if count == 1 else COUNT_WORDS[status]


def _format_finding(finding: DoctorFinding, check_width: int, width: int) -> Text:
    heading = Text.assemble(
        (finding.status.ljust(STATUS_WIDTH), STYLES[finding.status]), finding.check.ljust(check_width)
    )
    is_narrow = width < MIN_WIDTH_FOR_COLUMNS
    indent = NARROW_INDENT if is_narrow else len(heading)
    message = _wrap(finding.message, width - indent)
    remedy = _wrap(f"→ {finding.remedy}", width - indent) if finding.remedy else []
    if is_narrow:
        heading.rstrip()
        message = ["", *message]
    separator = "\n" + " " * indent
    heading.append(message[0] if message else "")
    heading.append("".join(separator + line for line in message[1:]))
    heading.append("".join(separator + line for line in remedy), style="cyan")
    return heading


def _wrap(text: str, width: int) -> list[str]:
    """Wraps between words: a path or a URL stays whole, so that it can be copied."""
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)
