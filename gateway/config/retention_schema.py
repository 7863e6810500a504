"""Structs of retention: how long data is kept, by kind and by team."""

from typing import Annotated

from msgspec import Meta

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
        option_help("Days for which images of settled jobs are kept, and their inputs. Default as long as the job."),
    ] = None
    prompts_days: Annotated[
        Annotated[float, Meta(ge=0, le=3_650)] | None,
        option_help(
            "Days for which prompts of settled jobs are kept; 0 deletes each when its job is settled. Default as long "
            "as the job."
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
    """How long the content of a team is kept. Each option replaces that of `gateway.yaml`."""

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


def make_job_retention(config: RetentionConfig, team: TeamRetentionConfig | None) -> JobRetention:
    """Returns the retention of a new job. Nothing is kept longer than its job."""
    team = team or TeamRetentionConfig()
    job_days = config.jobs_days if team.jobs_days is None else team.jobs_days
    image_days = config.images_days if team.images_days is None else team.images_days
    prompt_days = config.prompts_days if team.prompts_days is None else team.prompts_days
    return JobRetention(
        job_seconds=job_days * DAY_SECONDS,
        image_seconds=min(job_days, job_days if image_days is None else image_days) * DAY_SECONDS,
        prompt_seconds=min(job_days, job_days if prompt_days is None else prompt_days) * DAY_SECONDS,
    )
