"""Structs of retention: how long data is kept, by kind and by team."""

from math import inf
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from gateway.config.schema_base import ConfigStruct, option_help
from gateway.jobs.job import JobRetention

DAY_SECONDS = 86_400.0


class RetentionConfig(ConfigStruct, frozen=True, kw_only=True):
    """How long jobs, images, prompts, ledger entries, decision records and totals are kept."""

    jobs_days: Annotated[
        float,
        Meta(
            ge=0.01,
            le=3_650,
            description="Days for which settled jobs, with their images and prompts, are kept. Default 7.",
        ),
    ] = 7.0
    images_days: Annotated[
        Annotated[float, Meta(ge=0.01, le=3_650)] | None,
        option_help(
            "Days for which images of settled jobs are kept, and their inputs; also output files of batches. Default "
            "as long as the job."
        ),
    ] = None
    prompts_days: Annotated[
        Annotated[float, Meta(ge=0, le=3_650)] | None,
        option_help(
            "Days for which prompts of settled jobs are kept; 0 deletes each when its job is settled. Also input files "
            "of batches. Default as long as the job."
        ),
    ] = None
    ledger_days: Annotated[
        float, Meta(ge=32, le=3_650, description="Days for which each ledger entry is kept. Default 90.")
    ] = 90.0
    decisions_days: Annotated[
        float,
        Meta(
            ge=0.01,
            le=3_650,
            description="Days for which the decision record of each job is kept, from the end of its day. Default 90.",
        ),
    ] = 90.0
    totals_months: Annotated[
        int, Meta(ge=2, le=120, description="Months for which day totals are kept. Default 13.")
    ] = 13
    admin_events_days: Annotated[
        float,
        Meta(
            ge=1,
            le=3_650,
            description="Days for which the actions of admins, and ended API keys, are kept. Default 400.",
        ),
    ] = 400.0


class TeamRetentionConfig(ConfigStruct, frozen=True, kw_only=True):
    """How long content, ledger entries and decision records of a team are kept, in place of `gateway.yaml`."""

    MISPLACED_OPTIONS: ClassVar[dict[str, str]] = dict.fromkeys(
        ("totals_months", "admin_events_days"),
        "There is one for all teams: write it in gateway.yaml, below 'retention'",
    )
    jobs_days: Annotated[
        Annotated[float, Meta(ge=0.01, le=3_650)] | None,
        option_help("Days for which settled jobs are kept. Default as in gateway.yaml."),
    ] = None
    images_days: Annotated[
        Annotated[float, Meta(ge=0.01, le=3_650)] | None,
        option_help("Days for which images of settled jobs are kept. Default as in gateway.yaml."),
    ] = None
    prompts_days: Annotated[
        Annotated[float, Meta(ge=0, le=3_650)] | None,
        option_help("Days for which prompts of settled jobs are kept; 0 for none. Default as in gateway.yaml."),
    ] = None
    ledger_days: Annotated[
        Annotated[float, Meta(ge=32, le=3_650)] | None,
        option_help(
            "Days for which ledger entries are kept, also earlier ones; totals stay. At most, and by default, as in "
            "gateway.yaml."
        ),
    ] = None
    decisions_days: Annotated[
        Annotated[float, Meta(ge=0.01, le=3_650)] | None,
        option_help(
            "Days for which decision records are kept, also those of earlier jobs. At most, and by default, as in "
            "gateway.yaml."
        ),
    ] = None


class FileRetention(Struct, frozen=True, kw_only=True):
    """How long files of batches are kept at most after the end of their batch, by what they contain."""

    image_seconds: float = inf
    prompt_seconds: float = inf


def make_job_retention(config: RetentionConfig, team: TeamRetentionConfig | None) -> JobRetention:
    """Returns the retention of a new job. Nothing is kept longer than its job."""
    job_days = config.jobs_days if team is None or team.jobs_days is None else team.jobs_days
    image_days, prompt_days = _get_content_days(config, team)
    return JobRetention(
        job_seconds=job_days * DAY_SECONDS,
        image_seconds=min(job_days, job_days if image_days is None else image_days) * DAY_SECONDS,
        prompt_seconds=min(job_days, job_days if prompt_days is None else prompt_days) * DAY_SECONDS,
    )


def make_file_retention(config: RetentionConfig, team: TeamRetentionConfig | None) -> FileRetention:
    """Returns the retention of the files of a new batch. The time for which jobs are kept does not limit it: results
    outlive their jobs, unless images or prompts have a time of their own."""
    image_days, prompt_days = _get_content_days(config, team)
    return FileRetention(
        image_seconds=inf if image_days is None else image_days * DAY_SECONDS,
        prompt_seconds=inf if prompt_days is None else prompt_days * DAY_SECONDS,
    )


def _get_content_days(config: RetentionConfig, team: TeamRetentionConfig | None) -> tuple[float | None, float | None]:
    """Returns the configured days for images and for prompts."""
    team = team or TeamRetentionConfig()
    image_days = config.images_days if team.images_days is None else team.images_days
    return image_days, config.prompts_days if team.prompts_days is None else team.prompts_days
