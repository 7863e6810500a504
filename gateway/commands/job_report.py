"""Explains a job of a running gateway: its attempts, and what each seller said."""

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from gateway.commands.gateway_api_client import fetch_from_gateway, parse_report
from gateway.commands.plan_tables import print_rows

ATTEMPT_COLUMNS = ("", "seller", "images", "outcome", "seconds", "cost", "the seller said")


class AttemptReport(Struct, frozen=True, kw_only=True):
    """One entry of a job's `attempts`."""

    seller: str
    images: tuple[int, ...]
    state: str
    fault: str | None = None
    delivered: int = 0
    cost: float = 0.0
    seconds: float | None = None
    seller_status: int | None = None
    seller_code: str | None = None
    seller_message: str | None = None
    seller_notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        if self.state != "closed":
            return self.state
        return self.fault or "delivered"

    @property
    def explanation(self) -> str:
        """The seller's explanation in one line: status and code, message, notes."""
        answer = " ".join(str(word) for word in (self.seller_status, self.seller_code) if word)
        return "; ".join(text for text in (answer, self.seller_message, *self.seller_notes) if text)


class JobError(Struct, frozen=True):
    """Why a job delivered no image. `charge`: whether a seller was paid: `not charged`, `unknown` or `charged`."""

    code: str
    message: str
    charge: str = "unknown"


class PlannedSeller(Struct, frozen=True):
    """`seconds`: the expected time of half of the orders."""

    seller: str
    quote: float
    seconds: float | None = None


class PlanReport(Struct, frozen=True, kw_only=True):
    """A job's `plan`, from its decision record."""

    rule: str | None = None
    sellers: tuple[PlannedSeller, ...]


class JobImage(Struct, frozen=True, kw_only=True):
    """One delivered image. `url`: signed."""

    index: int
    url: str
    sha256: str
    output_format: str
    size: str
    seller: str = ""


class JobUsage(Struct, frozen=True):
    cost: float = 0.0


class JobReport(Struct, frozen=True, kw_only=True):
    """The response of `GET /v1/jobs/{id}`, as far as commands use it."""

    id: str
    status: str
    model: str
    n: int
    policy: str | None = None
    plan: PlanReport | None = None
    attempts: tuple[AttemptReport, ...]
    error: JobError | None = None
    warnings: tuple[str, ...] = ()
    images: tuple[JobImage, ...] = ()
    usage: JobUsage = JobUsage()
    max_remaining_cost: float = 0.0

    @property
    def has_ended(self) -> bool:
        return self.status not in ("queued", "in_progress")


def explain_job(job_id: str, url: str | None, key: str | None, wants_json: bool) -> None:
    """Prints the job as a table, or the gateway's response as JSON. Raises a ClickException if it cannot be read."""
    if url is None:
        raise click.UsageError("--job requires the URL of the gateway that has the job: set --live")
    not_found_message = f"Job {job_id} not found. It may have been deleted, or belong to another team than the key."
    response = fetch_from_gateway(url, key, f"/jobs/{job_id}", not_found_message)
    if wants_json:
        click.echo(msgspec.json.format(response.content, indent=2).decode())
    else:
        print_job(Console(), parse_report(response, JobReport, "job"))


def print_job(console: Console, job: JobReport) -> None:
    images = "1 image" if job.n == 1 else f"{job.n} images"
    console.print(
        Text.assemble("job ", (job.id, "bold"), f" {job.status}: {images} of {job.model}, policy {job.policy or '–'}")
    )
    if job.plan:
        sellers = ", ".join(f"{planned.seller} ${planned.quote:g}" for planned in job.plan.sellers)
        console.print(Text(f"planned ({job.plan.rule or 'chosen by name'}): {sellers}"))
    if job.error:
        console.print(Text(f"{job.error.code}: {job.error.message}", style="red"))
    for warning in job.warnings:
        console.print(Text(warning, style="yellow"))
    if job.attempts:
        rows = [_to_row(number, attempt) for number, attempt in enumerate(job.attempts, 1)]
        print_rows(console, ATTEMPT_COLUMNS, rows)
    else:
        console.print(Text("no order was sent"))


def _to_row(number: int, attempt: AttemptReport) -> tuple[str | Text, ...]:
    return (
        str(number),
        attempt.seller,
        f"{attempt.delivered} of {len(attempt.images)}",
        Text(attempt.outcome, style="green" if attempt.outcome == "delivered" else "yellow"),
        "–" if attempt.seconds is None else f"{attempt.seconds:.1f}",
        f"${attempt.cost:g}",
        Text(attempt.explanation or "–"),
    )
