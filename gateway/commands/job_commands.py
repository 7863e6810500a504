"""`image-gateway wait`, `jobs`, `job` and `cancel`: the jobs of a team at a running gateway."""

from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console

from gateway.commands.exit_codes import describe_exit_codes
from gateway.commands.job_client import FetchedJob, JobClient, Json
from gateway.commands.job_delivery import ResumeAdvice, add_resume_advice, deliver_job
from gateway.commands.job_progress import describe_state, print_line, report_progress
from gateway.commands.job_report import print_job
from gateway.commands.option_types import JobIdType
from gateway.commands.shared_options import (
    ClientCommand,
    connection_options,
    output_options,
    to_connection,
    to_output_files,
)
from gateway.commands.text_tables import print_table

JOB_COLUMNS = ("job", "created", "status", "images", "cost", "model", "error")
STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled", "expired")
MAX_LISTED_JOBS = 100


@click.command(cls=ClientCommand, epilog=describe_exit_codes())
@click.argument("job_id", type=JobIdType(), metavar="ID")
@output_options
@connection_options
def wait(job_id: str, **options: Any) -> None:
    """Wait for the job ID; write its images to files and print their paths.

    It can be repeated, and run by several people at the same time, as long as the gateway keeps the job.

    \b
    Examples:
      image-gateway wait job_0abc -o cat.png
      image-gateway wait job_0abc --timeout 60 --json
    """
    output_files = to_output_files(options)
    with add_resume_advice(ResumeAdvice(options, job_id)):
        with report_progress(options["quiet"]) as reporter:
            client = JobClient(to_connection(options), reporter.show_message)
            job = client.fetch_job(job_id)
            output_files.require_writable(job.report.n)
            job = client.wait_for_job(job, reporter.show_job)
        deliver_job(client, job, options, output_files)


@click.command(cls=ClientCommand)
@click.option("--status", multiple=True, type=click.Choice(STATUSES), help="May be repeated.")
@click.option("--label", multiple=True, help="Jobs with all these labels; may be repeated.")
@click.option("--model", help="Jobs of this model.")
@click.option("--since", metavar="TIME", help="A date like 2026-11-27, or seconds since 1970.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Jobs.")
@connection_options
def jobs(limit: int, wants_json: bool, **options: Any) -> None:
    """List your team's jobs, the newest first.

    \b
    Examples:
      image-gateway jobs --status failed --since 2026-11-27
      image-gateway jobs --json | jq -r '.[] | select(.cost > 0.1) | .id'
    """
    client = JobClient(to_connection(options), print_line)
    listed = list_jobs(client, limit, options)
    if wants_json:
        return click.echo(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
    if not listed:
        return click.echo("no jobs", err=True)
    print_table(JOB_COLUMNS, [_format_job(entry) for entry in listed])


def list_jobs(client: JobClient, limit: int, options: dict[str, Any]) -> list[Json]:
    """Reads as many pages as the limit needs. With filters, a page may be empty and have more behind it."""
    params: Json = {"status": ",".join(options["status"]), "label": options["label"]}
    params |= {name: options[name] or "" for name in ("model", "since")}
    listed: list[Json] = []
    while True:
        page_limit = min(MAX_LISTED_JOBS, limit - len(listed))
        page = client.call("GET", "/jobs", params={**params, "limit": page_limit})
        listed += page["data"]
        if len(listed) >= limit or not page["has_more"]:
            return listed[:limit]
        params["after"] = page["last_id"]


@click.command(cls=ClientCommand)
@click.argument("job_id", type=JobIdType(), metavar="ID")
@connection_options
def job(job_id: str, wants_json: bool, **options: Any) -> None:
    """Show the job ID: its state, its plan, and what each seller did.

    \b
    Example:
      image-gateway job job_0abc
    """
    fetched = JobClient(to_connection(options), print_line).fetch_job(job_id)
    _print_job(fetched, wants_json)


@click.command(cls=ClientCommand)
@click.argument("job_id", type=JobIdType(), metavar="ID")
@connection_options
def cancel(job_id: str, wants_json: bool, **options: Any) -> None:
    """Cancel the job ID. Orders that a seller already has are delivered and paid.

    \b
    Example:
      image-gateway cancel job_0abc
    """
    fetched = JobClient(to_connection(options), print_line).cancel_job(job_id)
    if wants_json:
        return _print_job(fetched, wants_json)
    report = fetched.report
    click.echo(f"{report.id}: {describe_state(report)}")
    if not report.has_ended:
        print_line(f"Orders are running: up to ${report.max_remaining_cost:g} may still be charged for their images.")


def _print_job(fetched: FetchedJob, wants_json: bool) -> None:
    if wants_json:
        return click.echo(msgspec.json.format(fetched.content, indent=2).decode())
    print_job(Console(), fetched.report)


def _format_job(entry: Json) -> tuple[str, ...]:
    created = datetime.fromtimestamp(entry["created_at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    error = entry["error"]["code"] if entry["error"] else ""
    images = f"{entry['delivered']} of {entry['n']}"
    return (entry["id"], created, entry["status"], images, f"${entry['cost']:g}", entry["model"], error)
