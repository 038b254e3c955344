"""Grafana's dashboards: made by the generator, by the rules of grafana/dashboard-linter, of metrics that exist."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import promql_parser as promql
import pytest
import yaml

from deploy.grafana.generator.boards import BOARDS
from tests.unit.telemetry.test_metrics import HEALTHY
from zpmeow.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
UNITS = {"none", "short", "percentunit", "bytes", "s", "ops", "reqps"}
"""Those of Grafana's that we use."""

NOT_SHOWN = {
    "python_info": "zpmeow_build_info has the version",
    "process_virtual_memory_bytes": "says nothing of what is used",
    "zpmeow_cache_hit_ratio": "since the start of the process, for people with curl; dashboards show rates",
}
"""Metrics that stand on no dashboard, and why."""


class Panel(NamedTuple):
    """A panel that shows something, and the dashboard that it is on."""

    board: str
    body: dict[str, Any]

    def __repr__(self) -> str:
        """Name it, for pytest."""
        return f"{self.board}: {self.body['title']}"

    @property
    def expressions(self) -> list[str]:
        """What it asks Prometheus, with Grafana's own variable filled in."""
        return [target["expr"].replace("$__rate_interval", "5m") for target in self.body["targets"]]


def load(name: str) -> dict[str, Any]:
    """Read a dashboard."""
    loaded: dict[str, Any] = orjson.loads((GRAFANA / "dashboards" / name).read_bytes())
    return loaded


DASHBOARDS = {board.name: load(board.file_name) for board in BOARDS}
PANELS = [
    Panel(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"] if panel["type"] != "row"
]


def nodes(expression: Any) -> Iterator[Any]:  # noqa: ANN401  (the parser has a class for each kind of node, and no base)
    """Walk through a parsed expression, a parent before its children."""
    yield expression
    children = [getattr(expression, name, None) for name in ("expr", "lhs", "rhs", "param", "vector_selector")]
    for child in [*children, *getattr(expression, "args", ())]:
        if child is not None:
            yield from nodes(child)


def selectors(expression: str) -> list[Any]:
    """Return what an expression reads."""
    return [node for node in nodes(promql.parse(expression)) if isinstance(node, promql.VectorSelector)]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_file_is_what_the_generator_makes(board: Any) -> None:  # noqa: ANN401
    """`make dashboards` writes it; nobody changes it by hand."""
    assert (GRAFANA / "dashboards" / board.file_name).read_text(encoding="utf-8") == board.as_json()


def test_no_dashboard_is_left_over() -> None:
    """Each file has its board."""
    assert {path.name for path in (GRAFANA / "dashboards").iterdir()} == {board.file_name for board in BOARDS}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_cannot_be_edited_and_keeps_its_uid(name: str) -> None:
    """Links lead to the uid; numbers of panels are unique in it."""
    board = DASHBOARDS[name]
    numbers = Counter(panel["id"] for panel in board["panels"])

    assert board["uid"] == f"zpmeow-{name}"
    assert board["editable"] is False
    assert max(numbers.values()) == 1
    assert "id" not in board


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_lets_readers_choose_source_job_and_instance(name: str) -> None:
    """template-datasource, template-job, template-instance and template-on-time-change-reload."""
    source, *choices = DASHBOARDS[name]["templating"]["list"]

    assert (source["name"], source["label"], source["type"], source["query"]) == (
        *("datasource", "Data source"),
        *("datasource", "prometheus"),
    )
    assert [(one["name"], one["label"]) for one in choices] == [("job", "Job"), ("instance", "Instance")]
    for one in choices:
        assert (one["type"], one["datasource"]["uid"], one["refresh"]) == ("query", "${datasource}", 2)
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
        (selector,) = selectors(one["query"].removeprefix("label_values(").rpartition(",")[0])
        assert selector.name == "zpmeow_build_info"


@pytest.mark.parametrize("panel", PANELS, ids=repr)
def test_panel_says_what_it_shows(panel: Panel) -> None:
    """panel-datasource, panel-title-description, panel-units and panel-no-targets."""
    assert panel.body["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel.body["title"]
    assert len(panel.body["description"]) > 15
    assert panel.body["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel.body["targets"]
    for target in panel.body["targets"]:
        assert target["datasource"] == panel.body["datasource"]
        assert target["legendFormat"]


def test_titles_are_unique_within_a_dashboard() -> None:
    """One word for one thing."""
    found = Counter((panel.board, panel.body["title"]) for panel in PANELS)

    assert max(found.values()) == 1


@pytest.mark.parametrize("panel", PANELS, ids=repr)
def test_expression_asks_for_the_chosen_processes(panel: Panel) -> None:
    """target-promql, target-job and target-instance."""
    for expression in panel.expressions:
        found = selectors(expression)
        assert found
        for selector in found:
            matchers = {(one.name, str(one.op), one.value) for one in selector.matchers.matchers}
            assert {("job", "MatchOp.Re", "$job"), ("instance", "MatchOp.Re", "$instance")} <= matchers


@pytest.mark.parametrize("panel", PANELS, ids=repr)
def test_counters_are_seen_as_rates_over_grafanas_interval(panel: Panel) -> None:
    """target-rate-interval and target-counter-agg; what was missing is not made up to be 0."""
    for target, expression in zip(panel.body["targets"], panel.expressions, strict=True):
        found = list(nodes(promql.parse(expression)))
        rated = [node.args[0] for node in found if isinstance(node, promql.Call) and node.func.name in RATES]
        counters = [
            node
            for node in found
            if isinstance(node, promql.VectorSelector)
            and str(node.name).endswith(("_total", "_count", "_sum", "_bucket"))
        ]
        assert all(isinstance(one, promql.MatrixSelector) for one in rated)
        assert target["expr"].count("[") == target["expr"].count("[$__rate_interval]") == len(rated)
        assert len(counters) == len(rated)
        assert "vector(" not in expression


RATES = {"rate", "increase"}


def test_every_metric_is_shown_and_exists() -> None:
    """A misspelt name would show nothing; one that nobody shows is asked for in vain."""
    text = Metrics().as_text(HEALTHY, "")[0].decode()
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    used = {
        name if (name := selector.name) in exposed else re.sub(r"_(?:bucket|count|sum)$", "", name)
        for panel in PANELS
        for expression in panel.expressions
        for selector in selectors(expression)
    } - {"up"}

    assert used - exposed == set()
    assert exposed - used == NOT_SHOWN.keys()


def test_provisioning_leads_to_the_dashboards() -> None:
    """Grafana finds them where docker-compose.yml puts them, and the Prometheus that it starts."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    mounts = dict(line.split(":")[:2] for line in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/zpmeow.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/zpmeow.yml").read_text())["datasources"]
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())

    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    assert (provider["allowUiUpdates"], source["editable"]) == (False, False)
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == scrapes["global"]["scrape_interval"]
