"""Overview: is the service well, and what does it cost?"""

from dashboard_model import (
    RATE,
    Dashboard,
    Limit,
    Panel,
    PanelKind,
    Query,
    Unit,
    alarm_from,
    make_quantile_queries,
    per_hour,
    quantile,
    rate,
    rate_of_stored,
    select,
    sum_by,
    warn_from,
)

MONEY_LABELS = ("team", "seller", "model", "line")
SPEND_FILTER = select("team", "model", more='line="capture"')

TRAFFIC = (
    Panel(
        title="Jobs",
        description="Jobs accepted per second, by team.",
        queries=(Query(sum_by(rate("igw_jobs_accepted_total", select("team", "model")), "team"), "{{team}}"),),
        unit=Unit.PER_SECOND,
        kind=PanelKind.STACK,
    ),
    Panel(
        title="Requests by status class",
        description="HTTP requests per second, by the first digit of their status. 4xx are mistakes of clients, and "
        "limits and budgets of their teams; 5xx are failures of the gateway or of all sellers.",
        queries=(
            Query(
                f"sum by (status_class) (label_replace(rate(igw_http_requests_total[{RATE}]), "
                '"status_class", "${1}xx", "status", "(.).."))',
                "{{status_class}}",
            ),
        ),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Jobs that ended",
        description="Jobs per second by how they ended, and why if they failed. Refused content and cancelled jobs "
        "do not count as failures of the service.",
        queries=(
            Query(
                sum_by(rate("igw_jobs_ended_total", select("team", "model")), "outcome", "reason"),
                "{{outcome}} {{reason}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        runbook="imagegatewayfailuresburnbudgetfast",
    ),
)
TIMES = (
    Panel(
        title="Time to the images",
        description="From the acceptance of a job to its images, of jobs that completed. A point links to a job.",
        queries=make_quantile_queries("igw_job_duration_seconds", select("model"), exemplars=True),
        unit=Unit.SECONDS,
        limits=(warn_from(120),),
        runbook="imagegatewayslowjobsburnbudgetfast",
    ),
    Panel(
        title="Overhead of the gateway",
        description="What the gateway itself adds to a request that waits for images: without sellers, the client's "
        "connection, and waiting for the job.",
        queries=make_quantile_queries("igw_http_overhead_seconds"),
        unit=Unit.SECONDS,
        limits=(warn_from(0.1), alarm_from(0.5)),
    ),
    Panel(
        title="Images per hour",
        description="Images delivered and paid for, per hour, by seller.",
        queries=(
            Query(
                per_hour(
                    rate_of_stored(
                        "igw_images_delivered_total", select("team", "model"), ("team", "seller", "model"), ("seller",)
                    )
                ),
                "{{seller}}",
            ),
        ),
        unit=Unit.COUNT,
        kind=PanelKind.STACK,
    ),
    Panel(
        title="Time of requests, by route",
        description="One of 20 requests takes this long or longer, until the end of its response, by route and the "
        "first digit of its status. Requests that wait for images have the sellers' time in it. Refused ones (4xx) do "
        "not count.",
        queries=(
            Query(
                quantile(0.95, "igw_http_request_duration_seconds", by=("route", "status_class")),
                "{{route}} {{status_class}}",
            ),
        ),
        unit=Unit.SECONDS,
        width=24,
    ),
)
MONEY = (
    Panel(
        title="Spend per hour, and a week ago",
        description="What teams pay for delivered images, in USD per hour, and in the same hour a week ago.",
        queries=(
            Query(per_hour(rate_of_stored("igw_spend_usd_total", SPEND_FILTER, MONEY_LABELS, ())), "now"),
            Query(
                per_hour(rate_of_stored("igw_spend_usd_total", SPEND_FILTER, MONEY_LABELS, (), offset="1w")),
                "a week ago",
            ),
        ),
        unit=Unit.USD,
    ),
    Panel(
        title="Budget used",
        description="The share of each team's budget that is spent or held. At 100 % its requests are refused.",
        queries=(
            Query(
                f"1 - max by (team, window) (igw_budget_left_usd{select('team')}) / "
                f"max by (team, window) (igw_budget_limit_usd{select('team')} > 0)",
                "{{team}}, {{window}}",
            ),
        ),
        unit=Unit.SHARE,
        kind=PanelKind.BARS,
        limits=(warn_from(0.8), alarm_from(0.9)),
        runbook="imagegatewaybudgetnearlyspent",
        when_empty="No team has a budget.",
    ),
    Panel(
        title="Paid for nothing",
        description="What was booked in the last hour as orphan (charged, not delivered) or suspected (perhaps "
        "charged).",
        queries=(Query("igw:lost_usd:sum - min_over_time(igw:lost_usd:sum[1h])", "orphan and suspected"),),
        unit=Unit.USD,
        limits=(alarm_from(1),),
        runbook="imagegatewaymoneylost",
    ),
)
HEALTH = (
    Panel(
        title="Error budget: failures",
        description="How many times faster than allowed the error budget of 1 % failed jobs is used up. At 1 it lasts "
        "exactly for the month; alerts begin at 6 and 14.4.",
        queries=tuple(
            Query(f"igw:failed_jobs:ratio_rate{window} / 0.01", f"over {window}") for window in ("5m", "1h", "6h")
        ),
        unit=Unit.COUNT,
        limits=(warn_from(1), alarm_from(6)),
        width=6,
        runbook="imagegatewayfailuresburnbudgetfast",
    ),
    Panel(
        title="Error budget: slow jobs",
        description="How many times faster than allowed the budget of 5 % jobs over two minutes is used up.",
        queries=tuple(
            Query(f"igw:slow_jobs:ratio_rate{window} / 0.05", f"over {window}") for window in ("5m", "1h", "6h")
        ),
        unit=Unit.COUNT,
        limits=(warn_from(1), alarm_from(6)),
        width=6,
        runbook="imagegatewayslowjobsburnbudgetfast",
    ),
    Panel(
        title="Oldest open job",
        description="Age of the oldest job that is not settled. Jobs expire after 15 minutes; only charges that are "
        "still unknown keep a job open longer.",
        queries=(Query("max(igw_oldest_open_job_age_seconds)", "oldest job"),),
        unit=Unit.SECONDS,
        limits=(warn_from(900), alarm_from(3_600)),
        width=6,
        runbook="imagegatewayjobsnotmoving",
    ),
    Panel(
        title="Invariants",
        description="What must be 0 while all is well, in the last hour: internal errors, forged callbacks, orders at "
        "unexpected prices, and replicas without heartbeat.",
        queries=(
            Query("sum(increase(igw_internal_errors_total[1h])) or vector(0)", "internal errors"),
            Query('sum(increase(igw_callbacks_total{outcome="forged"}[1h]))', "forged callbacks"),
            Query("sum(increase(igw_price_mismatches_total[1h])) or vector(0)", "unexpected prices"),
            Query("count(min by (replica) (igw_replica_heartbeat_age_seconds) > 60) or vector(0)", "silent replicas"),
        ),
        unit=Unit.COUNT,
        kind=PanelKind.NUMBER,
        limits=(Limit(0.01, "red"),),
        decimals=0,
        width=6,
        runbook="imagegatewayinternalerrors",
    ),
)

OVERVIEW = Dashboard(
    uid="igw-overview",
    title="Image gateway: Overview",
    description="Is the service well, and what does it cost?",
    filters=("team", "model"),
    rows={"Traffic": TRAFFIC, "Times": TIMES, "Money": MONEY, "Health": HEALTH},
)
