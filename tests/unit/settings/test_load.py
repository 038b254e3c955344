"""Settings: the contract's table of variables, `.env`, refusals in one line, no secret in any of it."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from zpmeow.settings import Settings, SettingsError, load_settings

# The contract's section 2, and LOG_REQUESTS: variable, a value that is not the default, group, field, default, value.
VARIABLES = [
    ("SERVER_HOST", "::1", "server", "host", "127.0.0.1", "::1"),
    ("SERVER_PORT", "9000", "server", "port", 8080, 9000),
    ("DB_HOST", "db", "database", "host", None, "db"),
    ("DB_PORT", "5433", "database", "port", None, 5433),
    ("DB_USER", "me", "database", "user", None, "me"),
    ("DB_NAME", "mine", "database", "name", None, "mine"),
    ("DB_SSLMODE", "require", "database", "ssl_mode", None, "require"),
    ("DB_POOL_SIZE", "3", "database", "pool_size", 10, 3),
    ("DB_TIMEOUT", "2s", "database", "timeout_seconds", 5.0, 2.0),
    ("CHANGE_LOG_RETENTION", "2h", "database", "change_log_retention_seconds", 3600.0, 7200.0),
    ("CACHE_ENABLED", "false", "cache", "enabled", True, False),
    ("REDIS_HOST", "redis", "cache", "host", None, "redis"),
    ("REDIS_PORT", "6380", "cache", "port", None, 6380),
    ("REDIS_DB", "2", "cache", "db", None, 2),
    ("CACHE_POOL_SIZE", "4", "cache", "pool_size", 10, 4),
    ("CACHE_TIMEOUT", "20ms", "cache", "timeout_seconds", 0.05, 0.02),
    ("CACHE_SESSION_TTL", "1h", "cache", "session_ttl_seconds", 86400.0, 3600.0),
    ("CACHE_QR_TTL", "30s", "cache", "qr_ttl_seconds", 60.0, 30.0),
    ("CACHE_CREDENTIAL_TTL", "1h", "cache", "credential_ttl_seconds", 21600.0, 3600.0),
    ("CACHE_STATUS_TTL", "1m", "cache", "status_ttl_seconds", 300.0, 60.0),
    ("CACHE_LOCAL_MAX_BYTES", "512KiB", "cache", "local_max_bytes", 67108864, 524288),
    ("CACHE_LOCAL_TTL", "1s", "cache", "local_ttl_seconds", 5.0, 1.0),
    ("CACHE_INSPECT_ONE_IN", "10", "cache", "inspect_one_in", 1000, 10),
    ("CACHE_STALE_IF_ERROR", "no", "cache", "stale_if_error", True, False),
    ("BREAKER_FAILURE_THRESHOLD", "7", "breaker", "failure_threshold", 5, 7),
    ("BREAKER_WINDOW", "20s", "breaker", "window_seconds", 10.0, 20.0),
    ("BREAKER_FAILURE_RATE", "0.25", "breaker", "failure_rate", 0.5, 0.25),
    ("BREAKER_PROBE_INTERVAL", "500ms", "breaker", "probe_interval_seconds", 1.0, 0.5),
    ("LOG_LEVEL", "DEBUG", "log", "level", "info", "debug"),
    ("LOG_FORMAT", "json", "log", "format", None, "json"),
    ("LOG_FILE", "log/app.log", "log", "file", None, Path("log/app.log")),
    ("LOG_REQUESTS", "off", "log", "requests", True, False),
    ("ZPMEOW_DATA_DIR", "/srv/data", "embedded", "data_dir", None, Path("/srv/data")),
]
SECRETS = {
    "GLOBAL_API_KEY": ("server", "global_api_key"),
    "ENGINE_API_KEY": ("server", "engine_api_key"),
    "METRICS_TOKEN": ("server", "metrics_token"),
    "DB_PASSWORD": ("database", "password"),
    "REDIS_PASSWORD": ("cache", "password"),
}
URLS = {"DATABASE_URL": "postgresql://me:pw@host/db", "REDIS_URL": "redis://:pw@host:6379/0"}


def load(**environ: str) -> Settings:
    """Load settings from these variables alone."""
    return load_settings(environ, None)


def refusal(**environ: str) -> str:
    """Return the text of the refusal."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, None)
    return str(caught.value)


def fields_of(settings: Settings) -> set[str]:
    """Return the variables that the settings know."""
    groups = (group for group in dict(settings).values() if isinstance(group, BaseModel))
    return {str(field.validation_alias) for group in groups for field in type(group).model_fields.values()}


@pytest.mark.parametrize(("variable", "text", "group", "field", "default", "value"), VARIABLES)
def test_variable_has_the_contracts_default_and_is_read(
    variable: str, text: str, group: str, field: str, default: object, value: object
) -> None:
    """Each variable of the contract has its default when it is not set, and its value when it is."""
    assert getattr(getattr(load(), group), field) == default

    assert getattr(getattr(load(**{variable: text}), group), field) == value


@pytest.mark.parametrize(("variable", "place"), SECRETS.items())
def test_secret_variable_is_read_and_hidden(variable: str, place: tuple[str, str]) -> None:
    """A secret is None when not set, can be had on purpose, and never shows."""
    group, field = place

    settings = load(**{variable: "hush-hush"})

    assert getattr(getattr(load(), group), field) is None
    assert getattr(getattr(settings, group), field).get_secret_value() == "hush-hush"
    assert "hush" not in repr(settings) + str(settings)
    assert "hush-hush" in settings.secrets()


def test_no_variable_is_known_but_those_of_the_contract() -> None:
    """Code and contract name the same variables."""
    named = {line[0] for line in VARIABLES} | set(SECRETS) | set(URLS)

    assert fields_of(load()) == named


@pytest.mark.parametrize("variable", [line[0] for line in VARIABLES] + [*SECRETS, *URLS])
@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_variable_counts_as_not_set(variable: str, empty: str) -> None:
    """An empty variable changes nothing."""
    assert load(**{variable: empty}) == load()


TAKES_ANYTHING = {"DB_USER", "DB_NAME", "DB_PASSWORD", "REDIS_PASSWORD", "LOG_FILE", "ZPMEOW_DATA_DIR"}
CHECKED = ({line[0] for line in VARIABLES} | set(SECRETS) | set(URLS)) - TAKES_ANYTHING


@pytest.mark.parametrize("variable", sorted(CHECKED))
def test_wrong_value_is_refused_in_one_line_that_names_it_and_does_not_repeat_it(variable: str) -> None:
    """Whatever is wrong, the text names the variable, is one line, and holds nothing of the value."""
    text = refusal(**{variable: "hunter2 :/?#\thunter2"})

    assert text.startswith(f"{variable}: expected ")
    assert "\n" not in text
    assert "hunter2" not in text


def test_all_wrong_variables_are_named_at_once() -> None:
    """Whoever has three mistakes is told of three."""
    text = refusal(SERVER_PORT="http", CACHE_TIMEOUT="fast", LOG_LEVEL="loud")

    assert all(name in text for name in ("SERVER_PORT", "CACHE_TIMEOUT", "LOG_LEVEL"))


def test_unknown_variables_are_ignored() -> None:
    """The environment is full of others' variables."""
    assert load(CACHE_TIMEOUTS="x", PATH="/bin") == load()


def test_bytes_that_are_no_text_are_refused() -> None:
    """A value that is not UTF-8 is refused like any other wrong value."""
    assert refusal(DB_PASSWORD="pass\udcffword").startswith("DB_PASSWORD: ")


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """`.env` fills in what the environment does not say."""
    env_file = tmp_path / ".env"
    env_file.write_text("\ufeffSERVER_PORT=1111\nDB_POOL_SIZE=3\n# no\nexport LOG_LEVEL='debug'\n", encoding="utf-8")

    settings = load_settings({"SERVER_PORT": "2222", "DB_POOL_SIZE": ""}, env_file)

    assert settings.server.port == 2222
    assert settings.database.pool_size == 3
    assert settings.log.level == "debug"


def test_refusal_says_when_the_value_stands_in_the_file(tmp_path: Path) -> None:
    """Whoever looks for the mistake in the environment is sent to the file."""
    env_file = tmp_path / ".env"
    env_file.write_text("SERVER_PORT=x\n", encoding="utf-8")

    with pytest.raises(SettingsError) as caught:
        load_settings({}, env_file)

    assert str(caught.value).startswith(f"SERVER_PORT (in {env_file}): expected")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file in another encoding is one clear line, not a traceback."""
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"SERVER_PORT=\xff\xfe\n")

    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings({}, env_file)


@pytest.mark.parametrize("name", ["missing", "."])
def test_missing_file_and_folder_are_no_file(tmp_path: Path, name: str) -> None:
    """No `.env`, or a virtual environment of that name: the environment alone counts."""
    assert load_settings({}, tmp_path / name) == load()


def test_settings_never_change() -> None:
    """Nobody can change a setting after the start."""
    with pytest.raises(ValueError, match="frozen"):
        load().server.port = 1
