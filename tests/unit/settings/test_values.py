"""Single values: durations, sizes, numbers, URLs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.settings import Settings, SettingsError, is_loopback, load_settings


def load(**environ: str) -> Settings:
    """Load settings from these variables alone."""
    return load_settings(environ, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1.5s", 1.5), ("5m", 300.0), ("24h", 86400.0), ("8760h", 31536000.0)],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    """The contract's units are understood."""
    assert load(CACHE_SESSION_TTL=text).cache.session_ttl_seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0s",
        "-5s",
        "5",
        "s",
        "5 s",
        "5S",
        "5sec",
        "1h30m",
        "1d",
        "1e3s",
        "inf",
        "nan",
        "8761h",
        "\N{ARABIC-INDIC DIGIT FIVE}s",
        ".5s",
        "+5s",
    ],
)
def test_duration_is_refused_when_it_is_zero_negative_junk_or_without_unit(text: str) -> None:
    """What is not a sensible duration stops the start."""
    with pytest.raises(SettingsError, match="CACHE_SESSION_TTL: expected a duration from 1ms to 8760h"):
        load(CACHE_SESSION_TTL=text)


@pytest.mark.parametrize("text", ["0", "0s", "0ms"])
def test_zero_turns_the_local_tier_off(text: str) -> None:
    """Where 0 means off, it is taken with and without a unit."""
    assert load(CACHE_LOCAL_TTL=text).cache.local_ttl_seconds == 0


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("100B", 100), ("512KiB", 524288), ("64MiB", 67108864), ("1GiB", 1073741824)]
)
def test_size_is_read_in_bytes(text: str, count: int) -> None:
    """Sizes are powers of 1024."""
    assert load(CACHE_LOCAL_MAX_BYTES=text).cache.local_max_bytes == count


@pytest.mark.parametrize("text", ["64", "64MB", "64M", "-1MiB", "1.5MiB", "MiB", "1025GiB", "64 MiB"])
def test_size_is_refused_when_it_is_not_clear(text: str) -> None:
    """64MB may mean two things: it is refused rather than guessed."""
    with pytest.raises(SettingsError, match="CACHE_LOCAL_MAX_BYTES: expected a size"):
        load(CACHE_LOCAL_MAX_BYTES=text)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SERVER_PORT", "65536"),
        ("SERVER_PORT", "-1"),
        ("SERVER_PORT", "80.0"),
        ("SERVER_PORT", "1_000"),
        ("DB_PORT", "0"),
        ("DB_POOL_SIZE", "0"),
        ("CACHE_POOL_SIZE", "1001"),
        ("REDIS_DB", "-1"),
        ("BREAKER_FAILURE_THRESHOLD", "0"),
        ("BREAKER_FAILURE_RATE", "0"),
        ("BREAKER_FAILURE_RATE", "1.1"),
        ("BREAKER_FAILURE_RATE", "nan"),
        ("BREAKER_FAILURE_RATE", "."),
        ("BREAKER_FAILURE_RATE", "50%"),
        ("CACHE_ENABLED", "maybe"),
        ("LOG_LEVEL", "trace"),
        ("LOG_FORMAT", "xml"),
        ("DB_SSLMODE", "on"),
        ("GLOBAL_API_KEY", "two words"),
        ("GLOBAL_API_KEY", "line\n"),
        ("METRICS_TOKEN", "schlüssel"),
        ("SERVER_HOST", "http://localhost"),
        ("SERVER_HOST", "a b"),
        ("SERVER_HOST", "/run/socket"),
    ],
)
def test_value_is_refused_when_out_of_range_or_of_another_kind(variable: str, text: str) -> None:
    """Numbers have ranges, words are from a list, keys fit into a header, hosts are hosts."""
    with pytest.raises(SettingsError, match=f"^{variable}: expected"):
        load(**{variable: text})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@h:5432/db",
        "postgres://h/db",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://u@h1:1,h2:2/db",
        "postgresql://u:p%40%2F@[::1]:5432/db?sslmode=require",
    ],
)
def test_database_url_is_taken_as_it_is(url: str) -> None:
    """What PostgreSQL's drivers understand is handed on."""
    assert load(DATABASE_URL=url).database.url == url


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://u:p@h:1/2", "redis://[::1]:6379", "unix:///run/redis.sock?db=1", "redis://h:6379/"]
)
def test_redis_url_is_taken_as_it_is(url: str) -> None:
    """What redis-py understands is handed on."""
    assert load(REDIS_URL=url).cache.url == url


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "mysql://h/db"),
        ("DATABASE_URL", "localhost:5432"),
        ("DATABASE_URL", "postgresql://u:pa#ss@h/db"),
        ("DATABASE_URL", "postgresql://u:p@h:99999/db"),
        ("DATABASE_URL", "postgresql://u:p@h:port/db"),
        ("REDIS_URL", "http://h"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://h/one"),
        ("REDIS_URL", "redis://:pa#ss@h:6379"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis://h:0"),
    ],
)
def test_url_is_refused_when_its_driver_could_not_mean_what_was_meant(variable: str, url: str) -> None:
    """A URL of another kind, or broken by a special character, stops the start."""
    with pytest.raises(SettingsError, match=f"^{variable}: expected"):
        load(**{variable: url})


@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
def test_later_redis_schemes_are_refused_clearly(scheme: str) -> None:
    """Who wants Sentinel or Cluster is told that they are not there yet."""
    with pytest.raises(SettingsError, match="not supported yet"):
        load(REDIS_URL=f"{scheme}://host")


@given(st.text())
def test_junk_host_is_never_taken_for_loopback(text: str) -> None:
    """Only localhost and the loopback addresses are loopback; junk is public, and public needs a key."""
    if is_loopback(text):
        assert text.strip("[]").lower() == "localhost" or "127." in text or text.strip("[]").endswith("1")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"])
def test_loopback_is_seen_in_other_spellings(host: str) -> None:
    """One address has many spellings."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "::ffff:10.0.0.1", "localhost.example.org", "128.0.0.1"])
def test_other_hosts_are_public(host: str) -> None:
    """All addresses of the machine, and all names, are public."""
    assert not is_loopback(host)
