"""Process: are the replicas, their store and their memory well?"""

from dashboard_model import RATE, Dashboard, Panel, PanelKind, Query, Unit, alarm_from, quantile, warn_from

UPTIME = 'time() - process_start_time_seconds{job="image-gateway"}'
BY_INSTANCE = ("instance",)

LOOP_ROW = (
    Panel(
        title="Event-loop lag",
        description="How late the event loop of a replica is: one of 100 measurements is later than this. All requests "
        "of the replica wait for it.",
        queries=(Query(quantile(0.99, "igw_event_loop_lag_seconds", "", BY_INSTANCE), "{{instance}}"),),
        unit=Unit.SECONDS,
        limits=(warn_from(0.1), alarm_from(1)),
    ),
    Panel(
        title="Processor",
        description="Processor cores that each replica uses. A replica cannot use much more than one.",
        queries=(Query(f'rate(process_cpu_seconds_total{{job="image-gateway"}}[{RATE}])', "{{instance}}"),),
        unit=Unit.COUNT,
        limits=(warn_from(0.8),),
    ),
    Panel(
        title="Memory",
        description="Resident memory of each replica.",
        queries=(Query('process_resident_memory_bytes{job="image-gateway"}', "{{instance}}"),),
        unit=Unit.BYTES,
    ),
    Panel(
        title="Memory budgets used",
        description="The share of each memory budget in use, of the fullest replica. At 100 % requests wait, or are "
        "refused.",
        queries=(
            Query("max by (budget) (igw_memory_budget_used_bytes / igw_memory_budget_limit_bytes)", "{{budget}}"),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.8), alarm_from(0.95)),
    ),
    Panel(
        title="Open files",
        description="Files and connections that each replica has open, as a share of what it may open.",
        queries=(
            Query('process_open_fds{job="image-gateway"} / process_max_fds{job="image-gateway"}', "{{instance}}"),
        ),
        unit=Unit.SHARE,
        limits=(warn_from(0.7), alarm_from(0.9)),
    ),
    Panel(
        title="Replicas",
        description="Seconds since the last heartbeat of each replica. One that stops normally disappears.",
        queries=(Query("min by (replica) (igw_replica_heartbeat_age_seconds)", "{{replica}}"),),
        unit=Unit.SECONDS,
        limits=(warn_from(30), alarm_from(60)),
        runbook="imagegatewayreplicasilent",
    ),
)
STORE_ROW = (
    Panel(
        title="Commits to the store",
        description="Time of a commit: one of 100 takes longer. Every step of a job waits for one.",
        queries=(Query(quantile(0.99, "igw_store_commit_duration_seconds", "", BY_INSTANCE), "{{instance}}"),),
        unit=Unit.SECONDS,
        limits=(warn_from(0.1), alarm_from(1)),
        runbook="imagegatewaystorenotwritable",
    ),
    Panel(
        title="Results of commits",
        description="Commits to the store per second, by result. Unavailable, full and unknown are errors "
        "of the store; the others are answers that the gateway expects.",
        queries=(Query(f"sum by (outcome) (rate(igw_store_commits_total[{RATE}])) > 0", "{{outcome}}"),),
        unit=Unit.PER_SECOND,
        runbook="imagegatewaystorenotwritable",
    ),
    Panel(
        title="Age of what was read from the store",
        description="Money, budgets and open jobs are read from the store every few seconds. After 30 seconds they are "
        "absent.",
        queries=(Query("igw_store_reading_age_seconds", "{{instance}}"),),
        unit=Unit.SECONDS,
        limits=(warn_from(15), alarm_from(30)),
        runbook="imagegatewaystorenotwritable",
    ),
    Panel(
        title="Writes and images",
        description="Whether each replica can write to the store, and store images. If not, it takes no new jobs.",
        queries=(
            Query("igw_store_takes_writes", "{{instance}} store"),
            Query("igw_storage_takes_images", "{{instance}} images"),
        ),
        unit=Unit.STATE,
        kind=PanelKind.TIMELINE,
        state_names=((0, "refused", "red"), (1, "taken", "green")),
        width=24,
        height=6,
        runbook="imagegatewaystoragetakesnoimages",
    ),
)
ERROR_ROW = (
    Panel(
        title="Internal errors",
        description="Errors of the gateway itself in the selected time, by component. While all is well there are "
        "none.",
        queries=(Query("sum by (component) (increase(igw_internal_errors_total[$__range]))", "{{component}}"),),
        unit=Unit.COUNT,
        limits=(alarm_from(0.5),),
        runbook="imagegatewayinternalerrors",
        when_empty="There was no internal error.",
    ),
    Panel(
        title="Long-running tasks",
        description="Whether each long-running task works in all replicas. A task that failed is restarted.",
        queries=(Query("min by (task) (igw_task_up)", "{{task}}"),),
        unit=Unit.STATE,
        kind=PanelKind.TIMELINE,
        state_names=((0, "down", "red"), (1, "up", "green")),
        runbook="imagegatewayinternalerrors",
    ),
    Panel(
        title="Failures of tasks",
        description="Failures of long-running tasks in the selected time, by task.",
        queries=(Query("sum by (task) (increase(igw_task_failures_total[$__range]))", "{{task}}"),),
        unit=Unit.COUNT,
        limits=(alarm_from(0.5),),
        when_empty="No task failed.",
    ),
    Panel(
        title="Spans that were not exported",
        description="Spans of traces that were dropped in the selected time: the queue was full, or the collector "
        "accepted none.",
        queries=(Query("sum by (reason) (increase(igw_trace_spans_dropped_total[$__range]))", "{{reason}}"),),
        unit=Unit.COUNT,
        limits=(warn_from(0.5),),
    ),
)
CONFIG_ROW = (
    Panel(
        title="Configuration",
        description="The configuration that each replica runs. If they differ, the same request may be answered "
        "differently.",
        queries=(Query("max by (instance, hash) (igw_config_info)"),),
        unit=Unit.STATE,
        kind=PanelKind.TABLE,
        runbook="imagegatewayconfigurationsdiffer",
    ),
    Panel(
        title="Changes of the configuration",
        description="Changes that were applied, or rejected because of problems, in the selected time.",
        queries=(Query("sum by (outcome) (increase(igw_config_reloads_total[$__range]))", "{{outcome}}"),),
        unit=Unit.COUNT,
        kind=PanelKind.NUMBER,
        runbook="imagegatewayreloadrefused",
    ),
    Panel(
        title="Age of the configuration",
        description="Time since each replica applied its configuration.",
        queries=(Query("time() - igw_config_applied_timestamp_seconds", "{{instance}}"),),
        unit=Unit.SECONDS,
        kind=PanelKind.NUMBER,
    ),
    Panel(
        title="Version",
        description="The version of the gateway that each replica runs, and for how long it has run.",
        queries=(
            Query(f"{UPTIME} + on (instance) group_left (version) 0 * igw_build_info", "{{instance}} {{version}}"),
        ),
        unit=Unit.SECONDS,
        kind=PanelKind.NUMBER,
        width=8,
    ),
)

PROCESS = Dashboard(
    uid="igw-process",
    title="Image gateway: Process",
    description="Are the replicas, their store and their memory well?",
    filters=(),
    rows={
        "Replicas": LOOP_ROW,
        "Store and images": STORE_ROW,
        "Errors and tasks": ERROR_ROW,
        "Configuration": CONFIG_ROW,
    },
)
