"""What the Redis tier makes of its URL, without any server."""

import pytest

from zpmeow.cache.redis_tier import RedisTier
from zpmeow.events import ignore

SECRET = "s3cr3t-pässword"


def tier(url: str) -> RedisTier:
    """Make a tier that is never asked."""
    return RedisTier(url=url, pool_size=10, timeout_seconds=0.05, observer=ignore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        f"http://:{SECRET}@localhost:6379/0",
        f"redis://user:{SECRET}@localhost:{SECRET}/0",
        f"redis://:{SECRET}@localhost:99999999/0",
        f"redis://:{SECRET}@[::1/0",
        f"redis://:{SECRET}@localhost/0?db={SECRET}",
        f"redis://localhost/0?no_such_option={SECRET}",
        f"rediss://:{SECRET}@localhost/0?ssl_cert_reqs={SECRET}",
        f"rediss://localhost/0?ssl_ca_certs=/{SECRET}",
    ],
)
def test_tier_refuses_a_bad_url_without_repeating_it(url: str) -> None:
    """A wrong URL stops the start, and the password in it is not shown."""
    with pytest.raises(ValueError, match="the URL of Redis cannot be used") as caught:
        tier(url)

    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/3",
        f"redis://user:{SECRET}@127.0.0.1:6379/0",
        f"redis://[::1]:6379/0?password={SECRET}",
        f"unix:///tmp/redis.sock?db=2&password={SECRET}",
        "rediss://localhost:6380/0",
        "rediss://localhost:6380/0?ssl_cert_reqs=none",
        "redis://localhost/0?socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=true&health_check_interval=1",
        "redis://localhost/0?protocol=3&client_name=me&decode_responses=true",
    ],
)
def test_tier_keeps_its_own_limits_whatever_the_url_says(url: str) -> None:
    """No option of a URL brings retries, longer timeouts or another protocol back."""
    connections = tier(url)._connections

    connection = connections._make()

    assert connection.retry.get_retries() == 0
    assert connection.retry_on_error == []
    assert connection.socket_connect_timeout == 0.05
    assert connection.socket_timeout is None
    assert connection.health_check_interval == 0
    assert connection.protocol == 2
    assert connection.client_name is None
    assert connection.encoder.decode_responses is False


def test_tier_shows_no_password_in_its_repr() -> None:
    """Neither the tier nor its connections can be logged with the password."""
    made = tier(f"redis://user:{SECRET}@localhost/0")

    assert SECRET not in repr(made)
    assert SECRET not in repr(made._connections)


def test_tls_connections_share_one_context() -> None:
    """Reading the certificates for each connection would block the loop each time."""
    connections = tier("rediss://localhost:6380/0")._connections

    first, second = connections._make(), connections._make()

    assert first.ssl_context is second.ssl_context  # type: ignore[attr-defined]
    assert first.ssl_context.context is not None  # type: ignore[attr-defined]
