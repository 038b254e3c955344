"""The kinds of panel that the dashboards are made of.

In an expression `TARGET` stands for the processes that a reader chose; `OURS`, behind a metric that other programs
export, too, for those that are zpmeow, since "All" takes in every job of the Prometheus. `$__rate_interval` is
Grafana's: four scrapes at the least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATA_SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
_CHOSEN: Final = 'job=~"$job",instance=~"$instance"'
_OURS: Final = "and on (job, instance) zpmeow_build_info{TARGET}"

AnyPanel = heatmap.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel


@dataclass(slots=True, frozen=True)
class Query:
    """An expression, and how its series are called."""

    expression: str
    legend: str

    def build(self, letter: str) -> prometheus.Dataquery:
        """Return it as Grafana has it, over the time shown."""
        return (
            prometheus.Dataquery()
            .ref_id(letter)
            .datasource(DATA_SOURCE)
            .expr(self.expression.replace("OURS", _OURS).replace("TARGET", _CHOSEN))
            .legend_format(self.legend)
            .range()
        )


@dataclass(slots=True, frozen=True)
class State:
    """What a number stands for: its word, and a colour of Grafana's."""

    word: str
    color: str


HOLDS: Final = {1: State("yes", "green"), 0: State("no", "red")}


def lines(title: str, about: str, unit: str, *queries: Query, stacked: bool = False) -> timeseries.Panel:
    """Draw each series as a line over time, or as a layer of the whole."""
    panel = (
        timeseries.Panel()
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)  # noqa: FBT003  (Grafana's builders take no keywords)
        )
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
    )
    if stacked:
        panel = panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    for query, letter in zip(queries, _letters(queries), strict=True):
        panel = panel.with_target(query.build(letter))
    return panel.title(title).description(about).unit(unit).datasource(DATA_SOURCE).height(8).span(12)


def figure(
    title: str, about: str, unit: str, query: Query, *, thresholds: Sequence[tuple[float, str]] = ()
) -> stat.Panel:
    """Show the newest number, large, in the colour of the last threshold that it reached (green below the first)."""
    steps = [
        dashboard.Threshold(value=None, color="green"),
        *(dashboard.Threshold(value=value, color=color) for value, color in thresholds),
    ]
    return (
        stat.Panel()
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))  # noqa: FBT003
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .thresholds(dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        # What is now: over the time shown, the last number would outlive a process that is gone.
        .with_target(query.build("A").instant())
        .title(title)
        .description(about)
        .unit(unit)
        .datasource(DATA_SOURCE)
        .height(4)
        .span(4)
    )


def timeline(title: str, about: str, states: Mapping[int, State], *queries: Query) -> statetimeline.Panel:
    """Draw a bar for each series whose colour tells its state."""
    mapping = dashboard.ValueMap(
        options={
            str(number): dashboard.ValueMappingResult(text=state.word, color=state.color, index=index)
            for index, (number, state) in enumerate(states.items())
        }
    )
    panel = (
        statetimeline.Panel()
        .mappings([mapping])
        .merge_values(True)  # noqa: FBT003
        .show_value(common.VisibilityMode.NEVER)
        .row_height(0.9)
        .fill_opacity(80)
    )
    for query, letter in zip(queries, _letters(queries), strict=True):
        panel = panel.with_target(query.build(letter))
    return panel.title(title).description(about).unit("short").datasource(DATA_SOURCE).height(7).span(24)


def breaker() -> statetimeline.Panel:
    """Draw the state of the breaker of each process."""
    return timeline(
        "Breaker",
        "Open: Redis is left alone and the database answers. Half open: a probe is under way.",
        {0: State("closed", "green"), 1: State("half open", "yellow"), 2: State("open", "red")},
        Query(
            '2 * max by (instance) (zpmeow_breaker_state{TARGET,state="open"})'
            ' + max by (instance) (zpmeow_breaker_state{TARGET,state="half_open"})',
            "{{instance}}",
        ),
    )


def spread(title: str, about: str, metric: str, labels: str = "") -> heatmap.Panel:
    """Show how the observations of a histogram of seconds spread over its buckets, as a heat map."""
    matchers = f"TARGET,{labels}" if labels else "TARGET"
    query = Query(f"sum by (le) (increase({metric}_bucket{{{matchers}}}[$__rate_interval]))", "{{le}}")
    return (
        heatmap.Panel()
        .calculate(False)  # noqa: FBT003  (the buckets come from the service)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(query.build("A").format(PromQueryFormat.HEATMAP))
        .title(title)
        .description(about)
        .unit("short")
        .datasource(DATA_SOURCE)
        .height(8)
        .span(12)
    )


def listing(title: str, about: str, query: Query) -> table.Panel:
    """List the labels of the newest series."""
    return (
        table.Panel()
        .with_target(query.build("A").instant().format(PromQueryFormat.TABLE))
        .title(title)
        .description(about)
        .unit("short")
        .datasource(DATA_SOURCE)
        .height(8)
        .span(12)
    )


def quantiles(metric: str, *shares: float, by: str = "", labels: str = "") -> list[Query]:
    """Ask for quantiles of a histogram, over all or for each value of a label."""
    matchers = f"TARGET,{labels}" if labels else "TARGET"
    groups = f"{by}, le" if by else "le"
    return [
        Query(
            f"histogram_quantile({share}, sum by ({groups}) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))",
            f"p{share * 100:g}" + (f" {{{{{by}}}}}" if by else ""),
        )
        for share in shares
    ]


def _letters(queries: Sequence[Query]) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(queries)]
