"""Settings that depend on each other: keys and addresses, URLs and their parts."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.settings import CacheSettings, DatabaseSettings, Settings, SettingsError, load_settings, without_credentials


def load(**environ: str) -> Settings:
    """Load settings from these variables alone."""
    return load_settings(environ, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", "127.1"])
def test_public_address_without_a_key_is_refused(host: str) -> None:
    """Without an operator key nobody but this machine is let near."""
    with pytest.raises(SettingsError, match=r"^GLOBAL_API_KEY: must be set"):
        load(SERVER_HOST=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_address_needs_no_key(host: str) -> None:
    """On this machine alone the service may be tried without a key."""
    settings = load(SERVER_HOST=host)

    assert settings.server.global_api_key is None
    assert not settings.server.is_public


def test_public_address_with_a_long_key_is_allowed_without_a_warning() -> None:
    """The usual settings of a server are taken in silence."""
    settings = load(SERVER_HOST="0.0.0.0", GLOBAL_API_KEY="k" * 16)

    assert settings.server.is_public
    assert settings.warnings() == []


def test_short_key_on_a_public_address_is_warned_about() -> None:
    """A key that can be guessed is allowed, and told."""
    (warning,) = load(SERVER_HOST="0.0.0.0", GLOBAL_API_KEY="short").warnings()

    assert "GLOBAL_API_KEY" in warning
    assert "short " not in warning


def test_nothing_is_configured_when_no_url_and_no_part_is_given() -> None:
    """Embedded servers are for those who name no server."""
    settings = load(DB_POOL_SIZE="3", CACHE_TIMEOUT="1s")

    assert settings.database.url is None
    assert settings.cache.url is None


def test_one_part_is_enough_and_the_others_have_defaults() -> None:
    """`REDIS_HOST=localhost` alone means Redis on its usual port."""
    settings = load(DB_HOST="db", REDIS_HOST="localhost")

    assert settings.database.url == "postgresql://zpmeow@db:5432/zpmeow"
    assert settings.cache.url == "redis://localhost:6379/0"


def test_url_wins_over_its_parts_and_says_so() -> None:
    """The URL says it all; whoever sets both is told what is ignored, without any value."""
    settings = load(DATABASE_URL="postgresql://a:secret@b/c", DB_HOST="d", DB_PASSWORD="p", REDIS_URL="redis://e")

    assert settings.database.url == "postgresql://a:secret@b/c"
    assert settings.warnings() == ["DB_HOST, DB_PASSWORD ignored: DATABASE_URL is set and says it all"]
    assert settings.secrets() == ["p", "secret"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("::1", "postgresql://zpmeow@[::1]:5432/zpmeow"),
        ("[fe80::1]", "postgresql://zpmeow@[fe80::1]:5432/zpmeow"),
        ("/run/postgresql", "postgresql://zpmeow@/zpmeow?host=%2Frun%2Fpostgresql&port=5432"),
    ],
)
def test_database_url_is_made_of_addresses_and_sockets(host: str, url: str) -> None:
    """IPv6 addresses and socket folders find their way into the URL."""
    assert load(DB_HOST=host).database.url == url


def test_ssl_mode_goes_into_the_database_url() -> None:
    """DB_SSLMODE is libpq's sslmode."""
    assert load(DB_HOST="db", DB_SSLMODE="verify-full").database.url == (
        "postgresql://zpmeow@db:5432/zpmeow?sslmode=verify-full"
    )


def test_redis_socket_is_a_url() -> None:
    """A path as REDIS_HOST is a Unix socket."""
    url = load(REDIS_HOST="/run/redis.sock", REDIS_PASSWORD="a b&c", REDIS_DB="3").cache.url

    assert url is not None
    parts = urlsplit(url)
    assert (parts.scheme, parts.path) == ("unix", "/run/redis.sock")
    assert parse_qs(parts.query) == {"db": ["3"], "password": ["a b&c"]}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_survives_the_url(password: str) -> None:
    """Whatever stands in a password, the driver gets it back, and no part of it becomes a host."""
    database = DatabaseSettings.model_validate({"DB_HOST": "db", "DB_PASSWORD": password, "DB_NAME": "a/b?c"})
    cache = CacheSettings.model_validate({"REDIS_HOST": "redis", "REDIS_PASSWORD": password})

    assert database.url is not None
    assert cache.url is not None
    for url, host in ((database.url, "db"), (cache.url, "redis")):
        parts = urlsplit(url)
        assert unquote(parts.password or "") == password
        assert parts.hostname == host
    assert unquote(urlsplit(database.url).path) == "/a/b?c"
    assert password in database.secrets()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:1/db?password=secret", "postgresql://h:1/db"),
        ("redis://:secret@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("postgresql://u:secret@/db?host=/run/pg", "postgresql:///run/pg/db"),
        ("unix:///run/r.sock?password=secret", "unix:///run/r.sock"),
    ],
)
def test_shown_url_has_no_credentials(url: str, shown: str) -> None:
    """A URL can be shown without its user, password and query."""
    assert without_credentials(url) == shown
