"""Spend: who pays how much to whom for what, and what is paid for nothing?"""

from dashboard_model import (
    Dashboard,
    Panel,
    PanelKind,
    Query,
    Unit,
    alarm_from,
    increase_of_stored,
    per_hour,
    rate_of_stored,
    select,
    warn_from,
)

TEAM_LABELS = ("team", "seller", "model")
CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")
LINE_LABELS = (*TEAM_LABELS, "line")
CELL_LINE_LABELS = (*CELL_LABELS, "line")
TEAM_CAPTURES = select("team", "seller", "model", more='line="capture"')
CELL_CAPTURES = select("seller", "model", more='line="capture"')
LOSSES = select("team", "seller", "model", more='line!="capture"')
CELLS = select("seller", "model")
CELL_NAMES = "seller, operation, resolution, quality"
# Series of each team and cell would be too many: docs/decisions/2026-11-27-spend-metrics.md.
ALL_TEAMS = "Of all teams: metrics of cells have no team."
CELL_LEGEND = "{{seller}} {{operation}} {{resolution}} {{quality}}"


def make_spend_panel(label: str) -> Panel:
    spend = rate_of_stored("igw_spend_usd_total", TEAM_CAPTURES, LINE_LABELS, (label,))
    return Panel(
        title=f"Spend per hour by {label}",
        description=f"What teams pay for delivered images, in USD per hour, by {label}.",
        queries=(Query(per_hour(spend), f"{{{{{label}}}}}"),),
        unit=Unit.USD,
        kind=PanelKind.STACK,
    )


SPEND_ROW = (
    make_spend_panel("team"),
    make_spend_panel("seller"),
    Panel(
        title="Spend in this time",
        description="What each team paid for delivered images in the selected time, in USD.",
        queries=(Query(increase_of_stored("igw_spend_usd_total", TEAM_CAPTURES, LINE_LABELS, ("team",)), "{{team}}"),),
        unit=Unit.USD,
        kind=PanelKind.BARS,
    ),
)
PRICE_ROW = (
    Panel(
        title="Spend by resolution and quality",
        description="What was paid for delivered images in the selected time, in USD: where the money goes. "
        + ALL_TEAMS,
        queries=(
            Query(
                increase_of_stored(
                    "igw_cell_spend_usd_total", CELL_CAPTURES, CELL_LINE_LABELS, ("resolution", "quality")
                )
            ),
        ),
        unit=Unit.USD,
        kind=PanelKind.MATRIX,
    ),
    Panel(
        title="Price per delivered image",
        description="Spend divided by images, in the selected time. Compare it with the offers in the configuration. "
        + ALL_TEAMS,
        queries=(
            Query(
                increase_of_stored("igw_cell_spend_usd_total", CELL_CAPTURES, CELL_LINE_LABELS, CELL_LABELS)
                + " / ("
                + increase_of_stored("igw_cell_images_delivered_total", CELLS, CELL_LABELS, CELL_LABELS)
                + " > 0)",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.USD,
        kind=PanelKind.TABLE,
        decimals=4,
        width=16,
    ),
)
DRIFT_ROW = (
    Panel(
        title="Drift from the configured price",
        description="What sellers charged more (above) or less (below) than their configured price, in USD per hour. "
        + ALL_TEAMS,
        queries=(
            Query(
                f"3600 * sum by (seller, direction) (rate(igw_price_drift_usd_total{CELLS}[$__rate_interval]))",
                "{{seller}} {{direction}}",
            ),
        ),
        unit=Unit.USD,
        limits=(warn_from(0.01),),
        runbook="imagegatewaypricedrift",
        when_empty="Every order was charged at its configured price.",
    ),
    Panel(
        title="Orders at unexpected prices",
        description="How many orders of each cell were not charged at their configured price, in the selected time. "
        + ALL_TEAMS,
        queries=(
            Query(
                f"sum by ({CELL_NAMES}) (increase(igw_price_mismatches_total{CELLS}[$__range])) > 0",
                CELL_LEGEND,
            ),
        ),
        unit=Unit.COUNT,
        kind=PanelKind.TABLE,
        width=16,
        runbook="imagegatewaypricedrift",
        when_empty="Every order was charged at its configured price.",
    ),
)
LOSS_ROW = (
    Panel(
        title="Orphan and suspected",
        description="What was charged and not delivered (orphan), perhaps charged (suspected), or charged beyond the "
        "hold (excess), in the selected time, in USD. The operator pays it, no team does.",
        queries=(
            Query(
                increase_of_stored(
                    "igw_spend_usd_total",
                    select("team", "seller", "model", more='line!="capture"'),
                    LINE_LABELS,
                    ("seller", "line"),
                ),
                "{{seller}} {{line}}",
            ),
        ),
        unit=Unit.USD,
        limits=(alarm_from(1),),
        runbook="imagegatewaymoneylost",
        when_empty="Everything that was charged was delivered.",
    ),
    Panel(
        title="Booked back",
        description="Amounts that turned out not to be charged, or to belong elsewhere, in the selected time, in USD.",
        queries=(
            Query(
                increase_of_stored(
                    "igw_spend_corrections_usd_total",
                    select("team", "seller", "model"),
                    LINE_LABELS,
                    ("seller", "line"),
                ),
                "{{seller}} {{line}}",
            ),
        ),
        unit=Unit.USD,
        when_empty="No amount was booked back.",
    ),
    Panel(
        title="Holds",
        description="Money that is set aside for running jobs, by team. It falls back to 0 when no job runs.",
        queries=(Query(f"max by (team) (igw_holds_usd{select('team')})", "{{team}}"),),
        unit=Unit.USD,
        kind=PanelKind.STACK,
    ),
    Panel(
        title="Budget left",
        description="What each team may still spend in this day, week or month (UTC), or ever.",
        queries=(Query(f"max by (team, window) (igw_budget_left_usd{select('team')})", "{{team}}, {{window}}"),),
        unit=Unit.USD,
        runbook="imagegatewaybudgetnearlyspent",
        when_empty="No team has a budget.",
    ),
    Panel(
        title="Thresholds of budgets",
        description="How many budgets of teams and of their API keys reached a soft threshold in the selected time.",
        queries=(
            Query(
                f"sum by (team, owner, window, threshold) "
                f"(increase(igw_budget_thresholds_reached_total{select('team')}[$__range]))",
                "{{team}} ({{owner}}), {{window}}: {{threshold}} %",
            ),
        ),
        unit=Unit.COUNT,
        when_empty="No budget reached a threshold.",
    ),
    Panel(
        title="Balances",
        description="What is left on each account, as its seller says, and the `low_balance_usd` below which an alert "
        "fires. Of all teams: accounts have no team.",
        queries=(
            Query("igw:account_balance_usd:min", "{{account}}"),
            Query("max by (account) (igw_account_low_balance_usd)", "{{account}} low"),
        ),
        unit=Unit.USD,
        runbook="imagegatewaybalancelow",
        when_empty="No seller shows a balance.",
    ),
)

SPEND = Dashboard(
    uid="igw-spend",
    title="Image gateway: Spend",
    description="Who pays how much to whom for what, and what is paid for nothing?",
    filters=("team", "seller", "model"),
    rows={"Spend": SPEND_ROW, "Prices": PRICE_ROW, "Price drift": DRIFT_ROW, "Losses, holds and budgets": LOSS_ROW},
)
