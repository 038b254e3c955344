"""Rules and alerts for Prometheus: promtool finds nothing, each alert has tests and a runbook, each metric exists."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.telemetry.test_metrics import HEALTHY
from zpmeow.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
ALERTS, RECORDING = PROMETHEUS / "rules/alerts.yml", PROMETHEUS / "rules/recording.yml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
SUFFIX = re.compile(r"_(?:bucket|count|sum)$")


def load(path: Path) -> dict[str, Any]:
    """Read a file of YAML."""
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def rules(path: Path) -> list[dict[str, Any]]:
    """Return all rules of a file."""
    return [rule for group in load(path)["groups"] for rule in group["rules"]]


ALERT_RULES = rules(ALERTS)


def find(program: str, package: str) -> str:
    """Find one of the programs, or skip."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing (Debian: {package})")
    return found


@pytest.mark.parametrize(
    "arguments", [["check", "rules", str(ALERTS), str(RECORDING)], ["test", "rules", *map(str, TESTS)]]
)
def test_promtool_finds_nothing(arguments: list[str]) -> None:
    """The rules parse, and every alert fires, is silent and ends as its tests say."""
    promtool = find("promtool", "prometheus")

    done = subprocess.run([promtool, *arguments], check=False, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_configuration_is_sound(name: str) -> None:
    """Secrets excepted, which stand elsewhere; both scrape as often as the dashboards believe."""
    promtool = find("promtool", "prometheus")

    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", str(PROMETHEUS / name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert load(PROMETHEUS / name)["global"]["scrape_interval"] == "5s"
    assert load(PROMETHEUS / name)["rule_files"] == ["rules/*.yml"]


def test_alertmanager_wakes_somebody_for_what_is_critical() -> None:
    """The file is sound, and alerts go where their severity says."""
    amtool = find("amtool", "prometheus-alertmanager")

    def ask(*arguments: str) -> str:
        done = subprocess.run([amtool, *arguments], check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    ask("check-config", str(ALERTMANAGER))
    for rule in ALERT_RULES:
        severity = rule["labels"]["severity"]
        receiver = ask("config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
        assert receiver == {"critical": "pager", "warning": "mail"}[severity]


def test_alerts_that_keep_others_silent_exist() -> None:
    """A misspelt name would let everything through."""
    known = {rule["alert"] for rule in ALERT_RULES}
    for inhibition in load(ALERTMANAGER)["inhibit_rules"]:
        for matcher in [*inhibition["source_matchers"], *inhibition["target_matchers"]]:
            names = re.sub(r'^alertname (?:=~|!=|=) "?|"$', "", matcher).split("|")
            assert all(any(re.fullmatch(name, one) for one in known) for name in names), matcher


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """With a section of its own in the runbooks, of three parts."""
    annotations = rule["annotations"]
    file, _, anchor = annotations["runbook"].partition("#")
    sections = re.split(r"^## ", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    by_anchor = {section.partition("\n")[0].lower(): section for section in sections}

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert annotations["summary"]
    assert len(annotations["description"]) > 30
    assert "**Means.**" in by_anchor[anchor]
    assert "**Do.**" in by_anchor[anchor]


def test_every_runbook_is_of_an_alert() -> None:
    """None is left of an alert that went."""
    told = set(re.findall(r"^## (\S+)", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"), re.MULTILINE))

    assert {name.lower() for name in told} == {rule["annotations"]["runbook"].partition("#")[2] for rule in ALERT_RULES}


@pytest.mark.parametrize("rule", ALERT_RULES, ids=lambda rule: rule["alert"])
def test_alert_is_tested_to_be_silent_to_fire_and_to_end(rule: dict[str, Any]) -> None:
    """In this order."""
    expression = f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}})'
    (looks,) = [
        test["promql_expr_test"]
        for file in TESTS
        for test in load(file)["tests"]
        if test["promql_expr_test"][0]["expr"] == expression
    ]
    fires = [bool(look["exp_samples"]) for look in looks]

    assert {look["expr"] for look in looks} == {expression}
    assert (fires[0], fires[-1], any(fires)) == (False, False, True)


def test_every_metric_of_the_rules_exists() -> None:
    """A misspelt name would never fire."""
    text = Metrics().as_text(HEALTHY, "")[0].decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) | {"up", "ALERTS"}
    recorded = {rule["record"] for rule in rules(RECORDING)}
    used = {
        SUFFIX.sub("", name)
        for rule in [*ALERT_RULES, *rules(RECORDING)]
        for name in re.findall(r"(?<![\w:])(?:zpmeow_\w+|process_\w+|job\w*:\w+:\w+|up\b)", rule["expr"])
    }

    assert len(used) > 15
    assert {name for name in used if name not in known and name not in recorded} == set()
