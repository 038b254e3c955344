"""The settings, in groups; each field says its unit, what None means and why the default is what it is.

A field's alias is its environment variable. Secrets never show in a repr.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from zpmeow.settings.values import (
    database_url,
    database_url_of,
    duration,
    host_name,
    is_loopback,
    one_of,
    passwords_in,
    ratio,
    redis_url,
    redis_url_of,
    refuse,
    size,
    token,
    whole_number,
    yes_or_no,
)

DEFAULT_DATABASE_URL: Final = "postgresql://zpmeow@localhost:5432/zpmeow"
DEFAULT_REDIS_URL: Final = "redis://localhost:6379/0"
_SHORT_KEY_CHARACTERS: Final = 16  # Arbitrary: 16 random characters of base62 are 95 bits.

Lifetime = Annotated[float, duration("1ms", "8760h")]
PoolSize = Annotated[int, whole_number(1, 1000)]
Port = Annotated[int, whole_number(1, 65535)]
YesOrNo = Annotated[bool, yes_or_no()]
Secret = Annotated[SecretStr, token()]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]


class _Group(BaseModel):
    """Some settings that belong together; never changes, and its errors never show a value."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_by_name=True)


class ServerSettings(_Group):
    """Where the service listens, and who may call."""

    host: Annotated[str, host_name()] = Field(default="127.0.0.1", validation_alias="SERVER_HOST")
    """Listening address. The default is reached from this machine alone, so that no key is needed to try it."""

    port: Annotated[int, whole_number(0, 65535)] = Field(default=8080, validation_alias="SERVER_PORT")
    """Listening port; 0 takes any that is free (for tests)."""

    global_api_key: Secret | None = Field(default=None, validation_alias="GLOBAL_API_KEY")
    """The operator's key. None: no key is asked for, allowed on a loopback address only."""

    engine_api_key: Secret | None = Field(default=None, validation_alias="ENGINE_API_KEY")
    """The engines' key. None: engines use the operator's."""

    metrics_token: Secret | None = Field(default=None, validation_alias="METRICS_TOKEN")
    """Opens `/metrics` besides the operator's key. None: only that key does."""

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the listening address."""
        return not is_loopback(self.host)

    @model_validator(mode="after")
    def _needs_a_key_in_public(self) -> Self:
        if self.is_public and self.global_api_key is None:
            expected = (
                "GLOBAL_API_KEY: must be set, because SERVER_HOST is an address that other machines can reach"
                " (without a key, only 127.0.0.1, ::1 and localhost are allowed)"
            )
            raise refuse(expected)
        return self

    def warnings(self) -> list[str]:
        """Return what is allowed but hardly meant."""
        key = self.global_api_key
        if self.is_public and key is not None and len(key.get_secret_value()) < _SHORT_KEY_CHARACTERS:
            return [f"GLOBAL_API_KEY is shorter than {_SHORT_KEY_CHARACTERS} characters on a public address"]
        return []

    def secrets(self) -> list[str]:
        """Return what must never be written down."""
        return _clear(self.global_api_key, self.engine_api_key, self.metrics_token)


class DatabaseSettings(_Group):
    """PostgreSQL, 13 or newer: the source of truth."""

    whole_url: Annotated[SecretStr, database_url()] | None = Field(default=None, validation_alias="DATABASE_URL")
    """Everything in one URL; then the parts below are ignored. None: the parts, if any is given."""

    host: Annotated[str, host_name(or_socket=True)] | None = Field(default=None, validation_alias="DB_HOST")
    """Name, address, or the folder of a Unix socket. None: localhost."""

    port: Port | None = Field(default=None, validation_alias="DB_PORT")
    """None: 5432, PostgreSQL's own."""

    user: str | None = Field(default=None, validation_alias="DB_USER")
    """None: zpmeow."""

    password: SecretStr | None = Field(default=None, validation_alias="DB_PASSWORD")
    """None: none is sent (trust, peer, or a password file)."""

    name: str | None = Field(default=None, validation_alias="DB_NAME")
    """The database's name. None: zpmeow."""

    ssl_mode: Annotated[SslMode, one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full")] | None = (
        Field(default=None, validation_alias="DB_SSLMODE")
    )
    """libpq's sslmode. None: prefer, as with libpq."""

    pool_size: PoolSize = Field(default=10, validation_alias="DB_POOL_SIZE")
    """Connections of this process. Ten: a PostgreSQL allows a hundred, and other processes want some."""

    timeout_seconds: Annotated[float, duration("10ms", "1m")] = Field(default=5.0, validation_alias="DB_TIMEOUT")
    """Limit for one query, waiting for a connection included. At most a minute: what the cache remembers of
    changes (floors, fences) must outlive every load."""

    change_log_retention_seconds: Annotated[float, duration("1m", "168h")] = Field(
        default=3600.0, validation_alias="CHANGE_LOG_RETENTION"
    )
    """How long lines of the change log are kept. A Redis that was away for longer comes back empty."""

    @property
    def url(self) -> str | None:
        """The configured database, secrets included; None: nothing is configured."""
        if self.whole_url is not None:
            return self.whole_url.get_secret_value()
        if not self.given_parts():
            return None
        return database_url_of(
            host=self.host or "localhost",
            port=self.port or 5432,
            user=self.user or "zpmeow",
            password=None if self.password is None else self.password.get_secret_value(),
            name=self.name or "zpmeow",
            ssl_mode=self.ssl_mode,
        )

    def given_parts(self) -> list[str]:
        """Return the names of the variables that give a part of the URL."""
        return _given(self, "host", "port", "user", "password", "name", "ssl_mode")

    def warnings(self) -> list[str]:
        """Return what is allowed but hardly meant."""
        return _ignored_parts("DATABASE_URL", self.given_parts()) if self.whole_url is not None else []

    def secrets(self) -> list[str]:
        """Return what must never be written down."""
        return _clear(self.password) + passwords_in(self.url)


class CacheSettings(_Group):
    """The cache: Redis, and how long entries live."""

    enabled: YesOrNo = Field(default=True, validation_alias="CACHE_ENABLED")
    """False: the no-op cache; every read goes to the database."""

    whole_url: Annotated[SecretStr, redis_url()] | None = Field(default=None, validation_alias="REDIS_URL")
    """Everything in one URL; then the parts below are ignored. None: the parts, if any is given."""

    host: Annotated[str, host_name(or_socket=True)] | None = Field(default=None, validation_alias="REDIS_HOST")
    """Name, address, or the path of a Unix socket. None: localhost."""

    port: Port | None = Field(default=None, validation_alias="REDIS_PORT")
    """None: 6379, Redis's own."""

    password: SecretStr | None = Field(default=None, validation_alias="REDIS_PASSWORD")
    """None: none is sent."""

    db: Annotated[int, whole_number(0, 99999)] | None = Field(default=None, validation_alias="REDIS_DB")
    """The database's number. None: 0."""

    pool_size: PoolSize = Field(default=10, validation_alias="CACHE_POOL_SIZE")
    """Connections of this process."""

    timeout_seconds: Annotated[float, duration("1ms", "1m")] = Field(default=0.05, validation_alias="CACHE_TIMEOUT")
    """Limit for all cache calls of one request together, waiting for a connection and connecting included.

    50 ms: a healthy Redis nearby needs one; the database answers in less than a user notices.
    """

    session_ttl_seconds: Lifetime = Field(default=86_400.0, validation_alias="CACHE_SESSION_TTL")
    """How long a session's record is fresh."""

    qr_ttl_seconds: Lifetime = Field(default=60.0, validation_alias="CACHE_QR_TTL")
    """How long a QR code is fresh; never longer than the code is valid."""

    credential_ttl_seconds: Lifetime = Field(default=21_600.0, validation_alias="CACHE_CREDENTIAL_TTL")
    """How long a device is fresh."""

    status_ttl_seconds: Lifetime = Field(default=300.0, validation_alias="CACHE_STATUS_TTL")
    """How long a connection's status is fresh."""

    local_max_bytes: Annotated[int, size("1024GiB")] = Field(
        default=64 * 1024**2, validation_alias="CACHE_LOCAL_MAX_BYTES"
    )
    """Memory of the tier inside the process; 0 turns it off. Finished answers take up to 32 MiB besides."""

    local_ttl_seconds: Annotated[float, duration("1ms", "1h", zero_is_off=True)] = Field(
        default=5.0, validation_alias="CACHE_LOCAL_TTL"
    )
    """How long the tier inside the process keeps an entry; 0 turns it off."""

    inspect_one_in: Annotated[int, whole_number(0, 1_000_000_000)] = Field(
        default=1000, validation_alias="CACHE_INSPECT_ONE_IN"
    )
    """The hits of one read in so many are compared with the database, ten reads a second at most; 0: none."""

    stale_if_error: YesOrNo = Field(default=True, validation_alias="CACHE_STALE_IF_ERROR")
    """With the database away, sessions and statuses past their lifetime may be served, marked as stale."""

    @property
    def url(self) -> str | None:
        """The configured Redis, secrets included; None: nothing is configured."""
        if self.whole_url is not None:
            return self.whole_url.get_secret_value()
        if not self.given_parts():
            return None
        return redis_url_of(
            host=self.host or "localhost",
            port=self.port or 6379,
            password=None if self.password is None else self.password.get_secret_value(),
            db=self.db or 0,
        )

    def given_parts(self) -> list[str]:
        """Return the names of the variables that give a part of the URL."""
        return _given(self, "host", "port", "password", "db")

    def warnings(self) -> list[str]:
        """Return what is allowed but hardly meant."""
        return _ignored_parts("REDIS_URL", self.given_parts()) if self.whole_url is not None else []

    def secrets(self) -> list[str]:
        """Return what must never be written down."""
        return _clear(self.password) + passwords_in(self.url)


class BreakerSettings(_Group):
    """When the cache is left alone, and how its recovery is noticed."""

    failure_threshold: Annotated[int, whole_number(1, 1000)] = Field(
        default=5, validation_alias="BREAKER_FAILURE_THRESHOLD"
    )
    """Opens after that many failures in a row."""

    window_seconds: Annotated[float, duration("100ms", "1h")] = Field(default=10.0, validation_alias="BREAKER_WINDOW")
    """The calls of that long ago count for the failure rate."""

    failure_rate: Annotated[float, ratio()] = Field(default=0.5, validation_alias="BREAKER_FAILURE_RATE")
    """Opens when that share of at least 20 calls in the window failed or timed out."""

    probe_interval_seconds: Annotated[float, duration("10ms", "5m")] = Field(
        default=1.0, validation_alias="BREAKER_PROBE_INTERVAL"
    )
    """How often recovery is probed while open."""


class LogSettings(_Group):
    """What is written down, where, and how it looks."""

    level: Annotated[LogLevel, one_of("debug", "info", "warning", "error")] = Field(
        default="info", validation_alias="LOG_LEVEL"
    )
    """The least severe lines that are written. `debug` tells of every cache hit and miss."""

    format: Annotated[LogFormat, one_of("console", "json")] | None = Field(default=None, validation_alias="LOG_FORMAT")
    """None: console if standard output is a terminal, else JSON."""

    file: Path | None = Field(default=None, validation_alias="LOG_FILE")
    """A file that gets all lines too. None: standard output alone."""

    requests: YesOrNo = Field(default=True, validation_alias="LOG_REQUESTS")
    """Whether each HTTP request is one line at info."""


class EmbeddedSettings(_Group):
    """The servers from wheels."""

    data_dir: Path | None = Field(default=None, validation_alias="ZPMEOW_DATA_DIR")
    """Where their files lie. None: `./data`; as root, where the server's user cannot reach it, `/var/lib/zpmeow`."""


def _given(group: _Group, *names: str) -> list[str]:
    fields = type(group).model_fields
    return [str(fields[name].validation_alias) for name in names if getattr(group, name) is not None]


def _ignored_parts(url_variable: str, parts: list[str]) -> list[str]:
    return [f"{', '.join(parts)} ignored: {url_variable} is set and says it all"] if parts else []


def _clear(*secrets: SecretStr | None) -> list[str]:
    return [secret.get_secret_value() for secret in secrets if secret is not None]
