"""A dashboard: rows of panels, and what all of them share."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from deploy.grafana.generator.panels import DATA_SOURCE, AnyPanel

_TAG: Final = "zpmeow"
_ALERT_TEXTS: Final = {"titleFormat": "{{alertname}}", "tagKeys": "severity"}
"""What Grafana's library has no words for: how an alert is called where it stands in a graph."""


@dataclass(slots=True, frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[AnyPanel]


@dataclass(slots=True, frozen=True)
class Board:
    """A dashboard to be made. `name` is the end of its file's name and of its uid, which links lead to."""

    name: str
    title: str
    about: str
    rows: Sequence[Row]

    @property
    def file_name(self) -> str:
        """Name the file that it is written to."""
        return f"zpmeow-{self.name}.json"

    def as_json(self) -> str:
        """Return what Grafana reads."""
        made = (
            builders.Dashboard(f"zpmeow / {self.title}")
            .uid(f"zpmeow-{self.name}")
            .description(self.about)
            .tags([_TAG])
            .readonly()
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .timezone("browser")
            .time("now-1h", "now")
            .refresh("30s")
            .variables([_data_source(), _choice("job", ""), _choice("instance", 'job=~"$job"')])
            .link(
                builders.DashboardLink("zpmeow")
                .type(dashboard.DashboardLinkType.DASHBOARDS)
                .tags([_TAG])
                .as_dropdown(True)  # noqa: FBT003  (Grafana's builders take no keywords)
                .include_vars(True)  # noqa: FBT003
                .keep_time(True)  # noqa: FBT003
            )
            .annotation(
                builders.AnnotationQuery()
                .name("Alerts")
                .datasource(DATA_SOURCE)
                .enable(True)  # noqa: FBT003
                .icon_color("red")
                .expr('max by (alertname, severity) (ALERTS{alertstate="firing",job=~"$job",alertname=~"Zpmeow.+"})')
            )
        )
        number = 0
        for row in self.rows:
            number += 1
            made = made.with_row(builders.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                made = made.with_panel(panel.id(number))
        document = json.loads(JSONEncoder().encode(made.build()))
        document["annotations"]["list"][0] |= _ALERT_TEXTS
        return json.dumps(document, sort_keys=True, indent=2) + "\n"


def _data_source() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _choice(label: str, among: str) -> builders.QueryVariable:
    """Let the reader choose some values of a label, all of them at first."""
    return (
        builders.QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATA_SOURCE)
        .query(f"label_values(zpmeow_build_info{{{among}}}, {label})")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003
        .include_all(True)  # noqa: FBT003
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )
