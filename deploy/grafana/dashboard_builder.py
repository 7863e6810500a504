"""Makes Grafana's dashboards of their descriptions, with Grafana's own SDK."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from dashboard_model import Dashboard, Panel, PanelKind, Query
from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TableCellBackgroundDisplayMode,
    TableColoredBackgroundCellOptions,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "image-gateway"
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# The metric whose label has the values of a filter. All of its series exist from the start.
FILTER_METRICS = {"team": "igw_jobs_accepted_total", "seller": "igw_cell_circuit_breaker_state"}
DEFAULT_FILTER_METRIC = "igw_cell_circuit_breaker_state"
# Each kind of panel has a class of its own in the SDK, with the same methods and without a common base.
AnyPanel = Any


def render_dashboard(dashboard: Dashboard) -> str:
    return json.dumps(build_dashboard(dashboard).build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def build_dashboard(dashboard: Dashboard) -> builder.Dashboard:
    result = (
        builder.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags([TAG])
        .time("now-6h", "now")
        .timezone("browser")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .variables(build_variables(dashboard))
        .annotation(build_config_annotation())
        .link(
            builder.DashboardLink("Dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .link(builder.DashboardLink("Runbook").url("${docs}/runbook.md").target_blank(True))
    )
    panel_ids = count(1)
    for title, panels in dashboard.rows.items():
        result = result.with_row(builder.Row(title).id(next(panel_ids)))
        for panel in panels:
            result = result.with_panel(build_panel(panel).id(next(panel_ids)))
    return result


def build_variables(dashboard: Dashboard) -> list[Any]:
    docs = builder.ConstantVariable("docs").label("Address of the folder docs").value("/public/image-gateway")
    return [builder.DatasourceVariable("datasource").label("Prometheus").type("prometheus"), docs] + [
        builder.QueryVariable(name)
        .label(name.capitalize())
        .query(f"label_values({FILTER_METRICS.get(name, DEFAULT_FILTER_METRIC)}, {name})")
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
        for name in dashboard.filters
    ]


def build_config_annotation() -> builder.AnnotationQuery:
    """Marks the moments when the configuration was changed."""
    return (
        builder.AnnotationQuery()
        .name("Configuration changes")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr("sum by (outcome) (increase(igw_config_reloads_total[$__interval])) > 0")
    )


# --- panels


def build_panel(panel: Panel) -> AnyPanel:
    result = (
        MAKERS[panel.kind](panel)
        .title(panel.title)
        .description(panel.description)
        .datasource(DATASOURCE)
        .span(panel.width)
        .height(panel.height)
    )
    for number, query in enumerate(panel.queries):
        result = result.with_target(build_query(panel, query, chr(ord("A") + number)))
    result = add_unit_and_limits(result, panel)
    if panel.runbook:
        link = builder.DashboardLink("What to do").url(f"${{docs}}/runbook.md#{panel.runbook}").target_blank(True)
        result = result.links([link])
    return result


def add_unit_and_limits(result: AnyPanel, panel: Panel) -> AnyPanel:
    result = result.unit(panel.unit).thresholds(build_thresholds(panel))
    if panel.decimals is not None:
        result = result.decimals(panel.decimals)
    if panel.when_empty:
        result = result.no_value(panel.when_empty)
    if panel.state_names:
        names = {
            str(value): model.ValueMappingResult(text=text, color=color) for value, text, color in panel.state_names
        }
        result = result.mappings([model.ValueMap(options=names)])
    return result


def build_thresholds(panel: Panel) -> builder.ThresholdsConfig:
    steps = [model.Threshold(value=limit.value, color=limit.color) for limit in panel.limits]
    base = "red" if panel.is_falling else "green"
    return builder.ThresholdsConfig().steps([model.Threshold(value=None, color=base), *steps])


def build_query(panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
    result = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto").ref_id(ref_id)
    if panel.kind in (PanelKind.TABLE, PanelKind.MATRIX):
        return result.instant().format(PromQueryFormat.TABLE)
    if panel.kind is PanelKind.BARS:
        return result.instant()
    return result.range().exemplar(query.has_exemplars)


def make_lines(panel: Panel) -> AnyPanel:
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    result = (
        timeseries.Panel()
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .show_points(VisibilityMode.AUTO)
        .fill_opacity(10)
        .axis_soft_min(0)
    )
    if panel.limits:
        result = result.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return result


def make_stack(panel: Panel) -> AnyPanel:
    return make_lines(panel).fill_opacity(40).stacking(common.StackingConfig().mode(StackingMode.NORMAL))


def make_number(panel: Panel) -> AnyPanel:
    return (
        stat.Panel()
        .color_mode(BigValueColorMode.VALUE if panel.limits else BigValueColorMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def make_bars(panel: Panel) -> AnyPanel:
    return (
        bargauge.Panel()
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def make_table(panel: Panel) -> AnyPanel:
    organize = model.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
    return table.Panel().with_transformation(organize)


def make_timeline(panel: Panel) -> AnyPanel:
    return statetimeline.Panel().show_value(VisibilityMode.NEVER).merge_values(True)


def make_matrix(panel: Panel) -> AnyPanel:
    """A table with the values of one label as rows, of another one as columns, and colours by value."""
    row, column = panel.matrix
    options = {"rowField": row, "columnField": column, "valueField": "Value"}
    colors = builder.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_BL_YL_RD)
    return (
        table.Panel()
        .with_transformation(model.DataTransformerConfig(id_val="groupingToMatrix", options=options))
        .color_scheme(colors)
        .cell_options(TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.GRADIENT))
    )


MAKERS: dict[PanelKind, Callable[[Panel], AnyPanel]] = {
    PanelKind.LINES: make_lines,
    PanelKind.STACK: make_stack,
    PanelKind.NUMBER: make_number,
    PanelKind.BARS: make_bars,
    PanelKind.TABLE: make_table,
    PanelKind.TIMELINE: make_timeline,
    PanelKind.MATRIX: make_matrix,
}
