"""Waits for a job, writes and shows its images, and ends the command with the exit code of its outcome."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from msgspec import Struct

from gateway.commands.exit_codes import CommandFailed, ExitCode, describe_output_error
from gateway.commands.interrupts import check_for_interrupts
from gateway.commands.job_client import FetchedJob, JobClient
from gateway.commands.job_progress import print_line
from gateway.commands.job_report import JobReport
from gateway.commands.output_files import OutputFiles
from gateway.commands.shared_options import DEFAULT_URL
from gateway.commands.terminal_images import (
    ImageProtocol,
    UnreadableImage,
    detect_protocol,
    encode_for_terminal,
    open_terminal_output,
)

NOT_CHARGED = "not charged"
_CODES_BEFORE_END = (ExitCode.ERROR, ExitCode.UNREACHABLE, ExitCode.TIMED_OUT)
_EXIT_CODES = {"moderation_blocked": ExitCode.REFUSED, "cancelled": ExitCode.CANCELLED}


class ResumeAdvice(Struct):
    """Says how to come back for a job after the command has ended.

    `options`: those of the command. `client`: says whether the gateway may have a job without a known `job_id`.
    """

    options: dict[str, Any]
    job_id: str | None = None
    idempotency_key: str | None = None
    client: JobClient | None = None

    @property
    def is_unconfirmed(self) -> bool:
        return self.job_id is None and self.client is not None and self.client.may_have_job

    def format_hint(self) -> str:
        if self.job_id is not None:
            return f"The gateway has the job. Get its images with: {self._format_wait_command(self.job_id)}"
        if not self.is_unconfirmed:
            return "The gateway did not accept the request. Nothing was ordered."
        return (
            "The gateway may have accepted the request. To get its job instead of a second one, repeat the command "
            f"with --idempotency-key {self.idempotency_key}"
        )

    def _format_wait_command(self, job_id: str) -> str:
        words = ["image-gateway", "wait", job_id]
        if self.options["url"] != os.environ.get("IGW_URL", DEFAULT_URL):
            words += ["--url", self.options["url"]]
        if self.options["output"]:
            words += ["--output", self.options["output"]]
        return shlex.join(words)


@contextmanager
def add_resume_advice(advice: ResumeAdvice) -> Iterator[None]:
    """Adds the advice to each end of the command that is not the end of its job."""
    try:
        with check_for_interrupts():
            yield
    except KeyboardInterrupt:
        raise CommandFailed(ExitCode.INTERRUPTED, "Interrupted.", advice.format_hint()) from None
    except OSError as error:
        raise CommandFailed(ExitCode.ERROR, describe_output_error(error), advice.format_hint()) from None
    except CommandFailed as error:
        if advice.is_unconfirmed and error.exit_code != ExitCode.TIMED_OUT:
            raise CommandFailed(ExitCode.UNCONFIRMED, error.message, advice.format_hint()) from None
        if error.exit_code in _CODES_BEFORE_END:
            error.hint = advice.format_hint()
        raise


def deliver_job(client: JobClient, job: FetchedJob, options: dict[str, Any], output_files: OutputFiles) -> None:
    """Writes the images of a job that has ended, prints their paths, and exits with the code of the outcome."""
    report = job.report
    for warning in report.warnings:
        print_line(f"warning: {warning}")
    protocol = _select_protocol(options) if report.images else None
    paths = []
    for image in report.images:
        data = client.download_image(image)
        paths.append(output_files.write_image(report, image, data))
        if not options["wants_json"] and not output_files.is_stdout:
            click.echo(paths[-1])
        _show_image(data, protocol)
    if options["wants_json"]:
        click.echo(_format_json(job, paths), err=output_files.is_stdout)
    _finish(report)


def _select_protocol(options: dict[str, Any]) -> ImageProtocol | None:
    """Returns the protocol for --show. Prints a warning if the terminal has none."""
    if options["show_as"]:
        return ImageProtocol(options["show_as"])
    if not options["show"]:
        return None
    protocol = detect_protocol(os.environ) if open_terminal_output() else None
    if protocol is None:
        print_line("warning: this terminal cannot show images; --show-as kitty, iterm or sixel tries anyway")
    return protocol


def _show_image(data: bytes, protocol: ImageProtocol | None) -> None:
    terminal = open_terminal_output()
    if protocol is None or terminal is None:
        return
    try:
        terminal.write(encode_for_terminal(data, protocol))
    except UnreadableImage as error:
        print_line(f"warning: the image cannot be shown: {error}")
    terminal.flush()


def _format_json(job: FetchedJob, paths: list[str]) -> str:
    content = {**msgspec.json.decode(job.content), "files": paths}
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()


def _finish(report: JobReport) -> None:
    """Prints the outcome. Raises CommandFailed, or SystemExit with the code of a partial delivery."""
    if not report.images:
        raise _to_failure(report)
    sellers = ", ".join(dict.fromkeys(image.seller for image in report.images))
    images = "1 image" if report.n == 1 else f"{len(report.images)} of {report.n} images"
    print_line(f"{images} by {sellers} for ${report.usage.cost:g} ({report.id})")
    if len(report.images) < report.n:
        raise SystemExit(ExitCode.INCOMPLETE)


def _to_failure(report: JobReport) -> CommandFailed:
    """Returns the failure of a job without images. Its exit code depends first of all on whether a seller was paid."""
    if report.error is None:
        return CommandFailed(ExitCode.ERROR, f"Job {report.id} has ended without images and without an error")
    code = ExitCode.PERHAPS_CHARGED
    if report.error.charge == NOT_CHARGED:
        code = _EXIT_CODES.get(report.error.code, ExitCode.NOT_CHARGED)
    return CommandFailed(code, f"{report.error.message} ({report.error.code}, {report.id})")
