"""Overview: is the service well, and what does it cost?"""

from dashboard_model import (
    Dashboard,
    Panel,
    PanelKind,
    Query,
    Unit,
    make_quantile_queries,
    rate,
    select,
    sum_by,
)

JOB_FILTER = select("team", "model")

OVERVIEW = Dashboard(
    uid="igw-overview",
    title="Image gateway: Overview",
    description="Is the service well, and what does it cost?",
    filters=("team", "model"),
    rows={
        "Requests and jobs": (
            Panel(
                title="Jobs per second",
                description="How many jobs were accepted per second, by team.",
                queries=(Query(sum_by(rate("igw_jobs_accepted_total", JOB_FILTER), "team"), "{{team}}"),),
                unit=Unit.PER_SECOND,
                kind=PanelKind.STACK,
            ),
            Panel(
                title="Requests by status class",
                description="HTTP requests per second, by the first digit of their status.",
                queries=(
                    Query(
                        "sum by (status_class) (label_replace(rate(igw_http_requests_total[$__rate_interval]), "
                        '"status_class", "${1}xx", "status", "(.)..")) ',
                        "{{status_class}}",
                    ),
                ),
                unit=Unit.PER_SECOND,
            ),
            Panel(
                title="Time to the images",
                description="From the acceptance of a job to its images, for completed jobs.",
                queries=make_quantile_queries("igw_job_duration_seconds", select("model"), exemplars=True),
                unit=Unit.SECONDS,
            ),
        ),
    },
)
