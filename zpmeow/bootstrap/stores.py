"""Where PostgreSQL and Redis are: configured, embedded, or where they usually listen."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from zpmeow.embedded import is_available, open_embedded
from zpmeow.settings import DEFAULT_DATABASE_URL, DEFAULT_REDIS_URL, Settings


@dataclass(slots=True, frozen=True, kw_only=True)
class Stores:
    """The addresses, and what to tell about embedded servers, a line each. `redis_url` is None without a cache."""

    database_url: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    notes: tuple[str, ...] = ()


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """Find the stores; what is not configured is started here and stopped at the end. Blocks.

    Raises:
        EmbeddedError: an embedded server cannot be had.
    """
    wants_postgres = settings.database.url is None
    wants_redis = settings.cache.enabled and settings.cache.url is None
    notes: list[str] = []
    embedded_database_url = embedded_redis_url = None
    with ExitStack() as stack:
        if (wants_postgres or wants_redis) and is_available():
            servers = stack.enter_context(
                open_embedded(
                    data_dir=settings.embedded.data_dir, wants_postgres=wants_postgres, wants_redis=wants_redis
                )
            )
            notes = servers.describe()
            embedded_database_url, embedded_redis_url = servers.database_url, servers.redis_url
        redis_url = settings.cache.url or embedded_redis_url or DEFAULT_REDIS_URL
        yield Stores(
            database_url=settings.database.url or embedded_database_url or DEFAULT_DATABASE_URL,
            redis_url=redis_url if settings.cache.enabled else None,
            notes=tuple(notes),
        )
