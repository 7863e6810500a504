"""Shows the progress of a job on standard error: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from gateway.commands.job_report import JobReport, PlannedSeller

# Until the job has ended, since the expected time is a guess.
MAX_FRACTION = 0.95
BAR_WIDTH = 24


class ProgressReporter(Protocol):
    def show_job(self, job: JobReport) -> None: ...

    def show_message(self, message: str) -> None: ...


class SilentReporter:
    """Shows nothing."""

    def show_job(self, job: JobReport) -> None:
        pass

    def show_message(self, message: str) -> None:
        pass


class LineReporter:
    """Prints a line whenever the state changes."""

    def __init__(self) -> None:
        self._last_line = ""

    def show_job(self, job: JobReport) -> None:
        expected = _get_expected(job)
        details = f", expected {_format_expected(expected)}" if expected else ""
        line = f"{job.id}: {describe_state(job)}{details}"
        if line != self._last_line:
            print_line(line)
        self._last_line = line

    def show_message(self, message: str) -> None:
        print_line(message)


class BarReporter:
    """Draws a bar: state, seller, elapsed and expected time, expected cost."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("submitting", total=None, details="")
        self._started_at = time.monotonic()

    def show_job(self, job: JobReport) -> None:
        expected, elapsed = _get_expected(job), time.monotonic() - self._started_at
        seconds = (expected.seconds if expected else None) or 0.0
        self._progress.update(
            self._task,
            description=describe_state(job),
            total=1.0 if seconds else None,
            completed=min(MAX_FRACTION, elapsed / seconds) if seconds else 0.0,
            details=f"of {_format_expected(expected)}" if expected else "",
        )

    def show_message(self, message: str) -> None:
        self._progress.console.print(Text(to_printable(message)), style="yellow")


@contextmanager
def report_progress(is_quiet: bool) -> Iterator[ProgressReporter]:
    """Opens the reporter that fits the terminal. A bar is drawn only if both outputs are terminals."""
    console = Console(stderr=True)
    has_terminal = sys.stdout.isatty() and sys.stderr.isatty() and not console.is_dumb_terminal
    if is_quiet or not has_terminal:
        yield SilentReporter() if is_quiet else LineReporter()
        return
    columns = (
        SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_WIDTH),
        TextColumn("{task.elapsed:.0f} s {task.fields[details]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield BarReporter(progress)


def describe_state(job: JobReport) -> str:
    """Describes the state in a few words, such as `in progress at runapi, 1 of 2 images`."""
    sellers = ", ".join(dict.fromkeys(attempt.seller for attempt in job.attempts if attempt.state != "closed"))
    state = job.status.replace("_", " ")
    state += f" at {sellers}" if sellers else ""
    failed = len([attempt for attempt in job.attempts if attempt.fault])
    state += f" (attempt {len(job.attempts)})" if failed and not job.has_ended else ""
    return state + (f", {len(job.images)} of {job.n} images" if job.n > 1 else "")


def _get_expected(job: JobReport) -> PlannedSeller | None:
    """Returns what was planned for the seller that has the order, else for the first seller."""
    sellers = job.plan.sellers if job.plan else ()
    current = [attempt.seller for attempt in job.attempts if attempt.state != "closed"]
    return next((planned for planned in sellers if planned.seller in current), sellers[0] if sellers else None)


def _format_expected(planned: PlannedSeller) -> str:
    seconds = "" if planned.seconds is None else f"about {planned.seconds:.2g} s, "
    return f"{seconds}${planned.quote:g}"


def print_line(message: str) -> None:
    click.echo(to_printable(message), err=True)


def to_printable(text: str) -> str:
    """Replaces control characters, which could change the terminal: messages may quote other programs."""
    return "".join(character if character.isprintable() else "?" for character in text)
