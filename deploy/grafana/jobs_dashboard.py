"""Jobs: where do they wait, and do they move?"""

from dashboard_model import (
    RATE,
    Dashboard,
    Panel,
    PanelKind,
    Query,
    Unit,
    alarm_from,
    make_quantile_queries,
    quantile,
    select,
    sum_by,
    warn_from,
)

FAILED_JOBS = select("team", "model", more='outcome!="completed"')

CELLS = select("model")
FAILED_BY_CELL = f"sum by (resolution, quality) (rate(igw_failed_jobs_total{CELLS}[{RATE}]))"
COMPLETED_BY_CELL = f"sum by (resolution, quality) (rate(igw_job_duration_seconds_count{CELLS}[{RATE}]))"

STATE_ROW = (
    Panel(
        title="Open jobs",
        description="Jobs in the store: queued, in progress, or ended with a charge that is still unknown.",
        queries=(Query("max by (state) (igw_open_jobs)", "{{state}}"),),
        unit=Unit.COUNT,
        kind=PanelKind.STACK,
    ),
    Panel(
        title="Jobs in flight, by replica",
        description="Jobs that each replica is working on now.",
        queries=(Query("igw_jobs_in_flight", "{{instance}}"),),
        unit=Unit.COUNT,
        kind=PanelKind.STACK,
    ),
    Panel(
        title="Time in each state",
        description="How long jobs were queued, until their first order, and in progress: the median, and what one of "
        "20 exceeds.",
        queries=tuple(
            Query(quantile(share, "igw_job_state_duration_seconds", "", ("state",)), f"{{{{state}}}} {name}")
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ),
        unit=Unit.SECONDS,
    ),
)
MOVEMENT_ROW = (
    Panel(
        title="Oldest open job",
        description="Age of the oldest job that is not settled.",
        queries=(Query("max(igw_oldest_open_job_age_seconds)", "oldest job"),),
        unit=Unit.SECONDS,
        limits=(warn_from(900), alarm_from(3_600)),
        runbook="imagegatewayjobsnotmoving",
    ),
    Panel(
        title="Due lag",
        description="For how long a job waits until any replica continues it. More than some seconds: jobs do not "
        "move.",
        queries=(Query("max(igw_due_lag_seconds)", "due lag"),),
        unit=Unit.SECONDS,
        limits=(warn_from(10), alarm_from(60)),
        runbook="imagegatewayjobsnotmoving",
    ),
    Panel(
        title="Reclaimed jobs",
        description="Jobs per second that a replica took over from one that crashed or hangs.",
        queries=(Query(sum_by(f"rate(igw_jobs_reclaimed_total[{RATE}])"), "reclaimed"),),
        unit=Unit.PER_SECOND,
        limits=(warn_from(0.01),),
        runbook="imagegatewayreplicasilent",
    ),
)
RESULT_ROW = (
    Panel(
        title="Failed jobs by reason",
        description="Jobs per second that ended without images, by the fault that ended them (docs/faults.md).",
        queries=(
            Query(
                f"sum by (outcome, reason) (rate(igw_jobs_ended_total{FAILED_JOBS}[{RATE}]))",
                "{{outcome}} {{reason}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=PanelKind.STACK,
        runbook="imagegatewayfailuresburnbudgetfast",
        when_empty="Every job completed.",
    ),
    Panel(
        title="Failed jobs by resolution and quality",
        description="Failed and expired jobs among all, by what was ordered. Refused content, orders that are "
        "invalid and cancelled jobs do not count.",
        queries=(
            Query(
                # What was never completed yet has only the failed ones.
                f"{FAILED_BY_CELL} / (({FAILED_BY_CELL} + ({COMPLETED_BY_CELL} or 0 * {FAILED_BY_CELL})) > 0)",
                "{{resolution}} {{quality}}",
            ),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.01), alarm_from(0.06)),
        runbook="imagegatewayfailuresburnbudgetfast",
        when_empty="No job failed.",
    ),
    Panel(
        title="Time until a job fails",
        description="The average time from the acceptance of a job until it fails or expires: how long clients "
        "wait for nothing.",
        queries=(
            Query(
                f"sum by (resolution, quality) (rate(igw_failed_job_seconds_total{CELLS}[{RATE}])) / "
                f"({FAILED_BY_CELL} > 0)",
                "{{resolution}} {{quality}}",
            ),
        ),
        unit=Unit.SECONDS,
        when_empty="No job failed.",
    ),
    Panel(
        title="Requests beyond a limit",
        description="Requests per second that were refused with 429, by team, whose limit, and which one.",
        queries=(
            Query(
                f"sum by (team, owner, limit) (rate(igw_rate_limited_requests_total{select('team')}[{RATE}]))",
                "{{team}}: {{limit}} of the {{owner}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        when_empty="No request was beyond a limit.",
    ),
    Panel(
        title="Batch lines",
        description="Lines of batches that ended per second, by result.",
        queries=(Query(f"sum by (outcome) (rate(igw_batch_lines_total{select('team')}[{RATE}]))", "{{outcome}}"),),
        unit=Unit.PER_SECOND,
        when_empty="No batch has ended.",
    ),
)
CALLBACK_ROW = (
    Panel(
        title="Callbacks",
        description="Callbacks of sellers per second, by result. Forged: the signature is wrong.",
        queries=(
            Query(f"sum by (adapter, outcome) (rate(igw_callbacks_total[{RATE}])) > 0", "{{adapter}} {{outcome}}"),
        ),
        unit=Unit.PER_SECOND,
        when_empty="No seller has sent a callback: IGW_PUBLIC_URL or the secrets of callbacks are not set.",
    ),
    Panel(
        title="What callbacks are worth",
        description="Seconds per hour by which callbacks brought the end of orders forward.",
        queries=(
            Query(
                f'3600 * sum by (seller) (rate(igw_callback_saved_seconds_total{{seller!=""}}[{RATE}]))', "{{seller}}"
            ),
        ),
        unit=Unit.SECONDS,
        when_empty="No callback has brought an order forward.",
    ),
    Panel(
        title="Storing an image",
        description="Time to check, convert and store an image: one of 20 longer than this.",
        queries=(Query(quantile(0.95, "igw_image_store_duration_seconds"), "p95"),),
        unit=Unit.SECONDS,
        limits=(warn_from(2.5), alarm_from(10)),
    ),
)
WEBHOOKS = select("team")
FAILED_ATTEMPTS = select("team", more='outcome!="delivered"')
NO_WEBHOOKS = "No webhook was sent: neither jobs nor targets of teams ask for one."
WEBHOOK_ROW = (
    Panel(
        title="Webhook attempts",
        description="Attempts to send a webhook per second, by outcome (docs/webhooks.md). Most failed ones are "
        "repeated, for about two and a half days.",
        queries=(Query(f"sum by (outcome) (rate(igw_webhook_attempts_total{WEBHOOKS}[{RATE}]))", "{{outcome}}"),),
        unit=Unit.PER_SECOND,
        kind=PanelKind.STACK,
        when_empty=NO_WEBHOOKS,
    ),
    Panel(
        title="Failed webhook attempts",
        description="The share of the attempts that failed, by team: whose server is down, or refuses.",
        queries=(
            Query(
                f"sum by (team) (rate(igw_webhook_attempts_total{FAILED_ATTEMPTS}[{RATE}])) / "
                f"sum by (team) (rate(igw_webhook_attempts_total{WEBHOOKS}[{RATE}]))",
                "{{team}}",
            ),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.05), alarm_from(0.5)),
        runbook="imagegatewaywebhooksfailed",
        when_empty="No attempt to send a webhook failed.",
    ),
    Panel(
        title="Webhooks that ended",
        description="Webhooks that ended in the selected time: delivered, or failed, which are given up.",
        queries=(
            Query(
                f"sum by (team, outcome) (increase(igw_webhooks_ended_total{WEBHOOKS}[$__range]))",
                "{{team}} {{outcome}}",
            ),
        ),
        unit=Unit.COUNT,
        kind=PanelKind.BARS,
        decimals=0,
        runbook="imagegatewaywebhooksfailed",
        when_empty=NO_WEBHOOKS,
    ),
    Panel(
        title="Time to a delivered webhook",
        description="From the end of a job until its webhook is delivered, with all attempts. A point links to a job.",
        queries=make_quantile_queries("igw_webhook_delivery_duration_seconds", exemplars=True),
        unit=Unit.SECONDS,
        limits=(warn_from(60), alarm_from(600)),
        runbook="imagegatewaywebhookslate",
        when_empty="No webhook was delivered.",
    ),
    Panel(
        title="Time of a webhook attempt",
        description="How long the servers of teams take to answer, failed attempts included. An attempt is given up "
        "after 10 seconds.",
        queries=tuple(
            Query(quantile(share, "igw_webhook_attempt_duration_seconds"), name)
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ),
        unit=Unit.SECONDS,
        limits=(warn_from(2.5), alarm_from(10)),
        runbook="imagegatewaywebhookslate",
        when_empty=NO_WEBHOOKS,
    ),
    Panel(
        title="Webhook lag",
        description="For how long the most overdue webhook has waited for its attempt. About a second, unless a host "
        "cannot keep up.",
        queries=(Query("max(igw_webhook_lag_seconds)", "lag"),),
        unit=Unit.SECONDS,
        limits=(warn_from(60), alarm_from(300)),
        runbook="imagegatewaywebhookslate",
    ),
)

MODERATION = select("team")
INVALID_ANSWERS = select("team", more='outcome!~"allowed|refused"')
NO_HOOKS = "No moderation hook was asked."
MODERATION_ROW = (
    Panel(
        title="Answers of moderation hooks",
        description="Questions about requests (before) and images (after) per second, by outcome (docs/moderation.md). "
        "Refused requests never become jobs.",
        queries=(
            Query(
                f"sum by (hook, outcome) (rate(igw_moderation_answers_total{MODERATION}[{RATE}]))",
                "{{hook}}: {{outcome}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=PanelKind.STACK,
        when_empty=NO_HOOKS,
    ),
    Panel(
        title="Moderation without a valid answer",
        description="The share of the questions without a valid answer, by team and hook. If the hook fails closed, "
        "requests are refused and paid images withheld.",
        queries=(
            Query(
                f"sum by (team, hook) (rate(igw_moderation_answers_total{INVALID_ANSWERS}[{RATE}])) / "
                f"sum by (team, hook) (rate(igw_moderation_answers_total{MODERATION}[{RATE}]))",
                "{{team}}: {{hook}}",
            ),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.05), alarm_from(0.2)),
        when_empty="Each question had a valid answer.",
        runbook="imagegatewaymoderationdown",
    ),
    Panel(
        title="Time of moderation",
        description="How long the hooks take to answer: requests and images wait for it.",
        queries=tuple(
            Query(quantile(share, "igw_moderation_duration_seconds", "", ("hook",)), f"{{{{hook}}}} {name}")
            for share, name in ((0.5, "p50"), (0.95, "p95"))
        ),
        unit=Unit.SECONDS,
        limits=(warn_from(1), alarm_from(5)),
        when_empty=NO_HOOKS,
    ),
)

JOBS = Dashboard(
    uid="igw-jobs",
    title="Image gateway: Jobs",
    description="Where do jobs wait, and do they move?",
    filters=("team", "model"),
    rows={
        "States": STATE_ROW,
        "Movement": MOVEMENT_ROW,
        "Results": RESULT_ROW,
        "Callbacks and storage": CALLBACK_ROW,
        "Webhooks": WEBHOOK_ROW,
        "Moderation": MODERATION_ROW,
    },
)
