"""What the documents say is so: settings, endpoints, metrics, links. No committed file tells where it was written."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zpmeow.api.openapi import make_document
from zpmeow.api.routes import API_ROUTES
from zpmeow.services.system_state import SystemState
from zpmeow.settings import load_settings
from zpmeow.telemetry.metrics import Metrics

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
DECISIONS: Final = sorted((ROOT / "docs" / "adr").glob("*.md"))
SECTIONS: Final = ["Context", "Decision", "Rejected", "Consequences"]
NO_VALUE: Final = "empty"
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
REGISTRY: Final = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:com|org)|crates\.io|golang\.org)\b")
MACHINE_PATH: Final = re.compile(r"(?<![\w.-])/(?:root|work|home/\w+|Users/\w+|tmp/\w+/v|opt/pypi\S*)/")


def _fields() -> dict[str, FieldInfo]:
    """Return every setting by the name of its variable."""
    settings = load_settings({}, env_file=None)
    groups = [group for _, group in settings if isinstance(group, BaseModel)]
    return {str(field.validation_alias): field for group in groups for field in type(group).model_fields.values()}


def _told_settings() -> dict[str, str]:
    """Return the rows of README's table of settings: name and default, as they are written."""
    section = _readme().partition("\n## Settings\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([A-Z_]+)` \| `?([^|`]*)`? \|", section, re.MULTILINE))


def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def _flowing(document: str) -> str:
    """Return a document's text with every line break and indent as one blank: a wrapped line is still one sentence."""
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


def _committed_files() -> list[Path]:
    """Return what git knows; of a copy without its history, everything but what the commands make."""
    if not (ROOT / ".git").exists():
        made = {".venv", "data", "log", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__"}
        return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _anchors(document: Path) -> set[str]:
    """Return what a document's headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_settings_are_all_in_the_readme_when_the_code_knows_them() -> None:
    """README's table has every variable that is read, and none that is not."""
    told = _told_settings()

    assert told.keys() == _fields().keys()


@pytest.mark.parametrize("name", sorted(_fields()))
def test_default_is_true_when_the_readme_tells_it(name: str) -> None:
    """Setting a variable to its told default changes nothing; `empty` means that the code has no value either."""
    told = _told_settings()[name]

    if told == NO_VALUE:
        assert _fields()[name].default is None
    else:
        assert _fields()[name].default is not None
        assert load_settings({name: told}, env_file=None) == load_settings({}, env_file=None)


def test_example_knows_every_variable_when_copied() -> None:
    """`.env.example` has each setting once, so that none has to be looked up elsewhere."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert sorted(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE)) == sorted(_fields())


def test_endpoints_are_all_in_readme_and_changelog_when_the_api_has_them() -> None:
    """Every operation of the OpenAPI document stands in README's table and in the changelog, and no other does."""
    document = make_document(API_ROUTES)
    served = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    told = set(re.findall(r"^\| `([A-Z]+ /[^` ]*)` \|", _readme(), re.MULTILINE))
    changelog = _flowing("CHANGELOG.md")

    assert told == served
    assert [operation for operation in sorted(served) if f"`{operation}`" not in changelog] == []


def test_metrics_are_all_in_the_changelog_when_the_service_has_them() -> None:
    """The changelog names every series of ours, and none that is not there."""
    metrics = Metrics()
    state = SystemState(
        cache_enabled=True,
        cache_connected=True,
        cache_keys=1,
        cache_version="Redis 7",
        circuit="closed",
        mode="normal",
        cache_trusted=True,
        cache_problem=None,
        database_problem=None,
        lag_seconds=0,
        lag_changes=3,
        feed_is_live=True,
        leads_relay=True,
        local_entries=7,
        local_bytes=1,
        pool_size=1,
        pool_idle=1,
        pool_in_use=0,
        pool_waiting=0,
    )

    exposition = metrics.as_text(state, "text/plain")[0].decode()

    told = set(re.findall(r"`(zpmeow_[a-z_]+)(?:\{[a-z,]+\})?`", _flowing("CHANGELOG.md")))
    assert told == set(re.findall(r"^# TYPE (zpmeow_\w+)", exposition, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_link_leads_somewhere_when_relative(document: Path) -> None:
    """Each link within the repository leads to a file, and to a heading where it names one."""
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    lost = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(link)

    assert lost == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_decision_has_its_parts_when_recorded(decision: Path) -> None:
    """Each decision has its number, a status with a date, and the four sections in their order."""
    text = decision.read_text(encoding="utf-8")

    assert re.match(rf"# {decision.name[:4]}\. \S.*\n\nStatus: accepted, \d{{4}}-\d\d-\d\d", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))


def test_decisions_are_numbered_and_listed_when_recorded() -> None:
    """Numbers have no gap, and the architecture page lists each decision under its title."""
    page = _flowing("docs/architecture.md")
    numbers = [int(decision.name[:4]) for decision in DECISIONS]
    titles = [decision.read_text(encoding="utf-8").partition("\n")[0].partition(". ")[2] for decision in DECISIONS]

    assert numbers == list(range(1, len(DECISIONS) + 1))
    assert all(
        f"- [{decision.name[:4]}](adr/{decision.name}) {title}" in page
        for decision, title in zip(DECISIONS, titles, strict=True)
    )


def test_modules_exist_when_the_architecture_page_names_them() -> None:
    """Every file that the page calls by its path is there."""
    page = _flowing("docs/architecture.md")
    named = re.findall(r"`((?:api|cache|domain|postgres|repositories|services|settings|telemetry)/[\w/.]+)`", page)

    assert named
    assert [path for path in named if not (ROOT / "zpmeow" / path).exists()] == []


def test_committed_files_tell_nothing_of_the_machine_when_read() -> None:
    """No committed file names a package registry's host or a folder of the machine that it was written on."""
    found = []
    for path in _committed_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{path.relative_to(ROOT)}: {hit[0]}" for hit in (*REGISTRY.finditer(text), *MACHINE_PATH.finditer(text))
        ]

    assert found == []


def test_fields_and_modules_of_the_log_are_documented() -> None:
    """Every field that a line is given, and every name that tells, stands in docs/logs.md."""
    calls = [
        call
        for folder in ("telemetry", "bootstrap")
        for file in (ROOT / "zpmeow" / folder).glob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    ]
    levels = {"debug", "info", "warning", "error"}
    fields = {keyword.arg for call in calls if _name(call) in levels for keyword in call.keywords} - {"exc_info", None}
    modules = {
        call.args[0].value
        for call in calls
        if _name(call) == "logger" and call.args and isinstance(call.args[0], ast.Constant)
    }
    told = set(re.findall(r"`([a-z_-]+)`", (ROOT / "docs/logs.md").read_text(encoding="utf-8")))

    assert {"duration_ms", "cached_version"} <= fields
    assert {"http", "logs"} <= modules
    assert (fields - told, modules - told) == (set(), set())


def _name(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    return call.func.attr
