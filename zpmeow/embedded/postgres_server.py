"""The embedded PostgreSQL: made by initdb once, durable, and reachable over a socket in a private folder only.

Its log holds no user data: errors of statements are not written at all (they reach the client), so neither are the
values that they quote.
"""

import hashlib
import shutil
import signal
import socket
import struct
import time
from pathlib import Path
from urllib.parse import urlencode

from zpmeow.embedded.data_folder import DataFolder
from zpmeow.embedded.errors import DataFolderUnusable, ServerDidNotStart
from zpmeow.embedded.programs import POSTGRES_MAJOR, Program
from zpmeow.embedded.server_process import (
    PROBE_SECONDS,
    ServerProcess,
    StopStep,
    arguments_of,
    listener_of,
    run_to_end,
    stop_left_behind,
)

PORT = 5432
"""Only part of the socket's name: nothing listens on TCP."""

INITDB_SECONDS = 120.0
START_SECONDS = 120.0
"""An ordinary start takes 0.1 s; after a crash the server first reads up to 1 GB of its log again."""

OLD_BACKENDS_SECONDS = 10.0
OLD_BACKENDS_POLL_SECONDS = 0.2

FAST_SHUTDOWN = StopStep(signal=signal.SIGINT, seconds=20.0)
IMMEDIATE_SHUTDOWN = StopStep(signal=signal.SIGQUIT, seconds=5.0)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    # "log" ranks above "error" here: statements' errors stay out, starts, stops and crashes are written.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """One PostgreSQL server under the data folder."""

    def __init__(self, *, program: Program, folder: DataFolder, sockets: Path) -> None:
        """Prepare a server that is not running yet."""
        self._program = program
        self._folder = folder
        self._sockets = sockets
        self._data = _data(folder)
        self._home = self._data.parent
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """The address for asyncpg."""
        return f"postgresql://postgres@/postgres?{urlencode({'host': str(self._sockets), 'port': PORT}, safe='/')}"

    def describe(self) -> str:
        """Say in one line what runs and where its data lie."""
        return f"embedded PostgreSQL {self._program.version}, data in {self._data}"

    def start(self) -> None:
        """Start the server and return when it accepts connections; makes its data folder at the first time.

        Raises:
            ServerDidNotStart: with the tail of its log.
            DataFolderUnusable: the data are another release's, or another user's.
        """
        if not (self._data / "PG_VERSION").exists():
            self._make_data()
        give_up_at = time.monotonic() + OLD_BACKENDS_SECONDS
        while True:
            try:
                self._start_once()
            except ServerDidNotStart as error:
                # Backends of a killed server that are still ending; the server refuses to start beside them.
                if "shared memory block" not in str(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(OLD_BACKENDS_POLL_SECONDS)
            else:
                return

    def _start_once(self) -> None:
        settings = {**SETTINGS, "unix_socket_directories": str(self._sockets), "port": str(PORT)}
        arguments: list[str | Path] = [self._program.path, "-D", self._data]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = ServerProcess(
            arguments,
            name="the embedded PostgreSQL",
            account=self._folder.account,
            environment=self._environment(),
            log=self._folder.path / "postgres.log",
        )
        self._process.wait_until(self._is_ready, seconds=START_SECONDS)

    def stop(self) -> None:
        """End the server in order: sessions are broken off, everything committed is on disk; safe to call twice."""
        if self._process is not None:
            self._process.stop(FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN)

    def fingerprint(self) -> str | None:
        """Identify the state of a stopped server: any other start, restore or initdb in between changes it."""
        try:
            control = (self._data / "global" / "pg_control").read_bytes()
        except OSError:
            return None
        return hashlib.sha256(control).hexdigest()

    def _make_data(self) -> None:
        self._folder.private_folder("postgres")
        others = sorted(path.name for path in self._home.iterdir() if (path / "PG_VERSION").exists())
        if any(name.isdigit() for name in others):
            message = f"{self._home} holds data of PostgreSQL {', '.join(others)}, and this is {self._program.version}"
            raise DataFolderUnusable(message)
        # A killed initdb leaves half a folder that the next one refuses; only a whole one gets the final name.
        unfinished = self._home / "unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        options = ["--username=postgres", "--auth=trust", "--no-instructions", "--data-checksums"]
        # The builtin provider needs no locale of the system's.
        options += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        run_to_end(
            [self._program.path.with_name("initdb"), "-D", unfinished, *options],
            name="initdb",
            account=self._folder.account,
            environment=self._environment(),
            seconds=INITDB_SECONDS,
        )
        unfinished.rename(self._data)

    def _environment(self) -> dict[str, str]:
        """Give the server nothing of the service's environment, which holds keys."""
        # The wheel's libraries know only the folder that they were built in.
        libraries = str(self._program.path.parent.parent / "lib")
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_LIBRARY_PATH": libraries}

    def _is_ready(self) -> bool:
        """Ask for a connection as a client does: R is the request to authenticate, E a refusal (still starting)."""
        words = b"user\0postgres\0database\0postgres\0\0"
        startup = struct.pack(">II", len(words) + 8, 3 << 16) + words
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PROBE_SECONDS)
                connection.connect(str(_socket(self._sockets)))
                connection.sendall(startup)
                is_welcome = connection.recv(4096).startswith(b"R")
                connection.sendall(b"X\0\0\0\4")  # A farewell, so that the log tells of no broken connection.
                return is_welcome
        except OSError:
            return False


def stop_postgres_left_behind(folder: DataFolder, sockets: Path) -> None:
    """End the PostgreSQL of a service that was killed, if it still runs, and remove the pid files that it left.

    The server itself takes a pid file for alive as long as any process has that pid: one that reused it, or a zombie
    that nobody collects (a container without an init process). That is found out here, under the folder's lock; old
    backends that may still be ending are another matter, which the server finds out by its shared memory.

    Raises:
        ServerDidNotStop: it cannot be ended from here.
    """
    pid_file = _data(folder) / "postmaster.pid"
    pid = listener_of(_socket(sockets)) or _postmaster(pid_file)
    if pid is not None:
        stop_left_behind(pid, FAST_SHUTDOWN, IMMEDIATE_SHUTDOWN, name="the embedded PostgreSQL")
    lock_of_socket = sockets / f"{_socket(sockets).name}.lock"
    for stale in (pid_file, lock_of_socket, _socket(sockets)):
        stale.unlink(missing_ok=True)


def _postmaster(pid_file: Path) -> int | None:
    """Return the pid that the pid file names, if a server on these very data runs under it."""
    try:
        pid = int(pid_file.read_text(encoding="utf-8").partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if str(pid_file.parent) in arguments_of(pid) else None


def _data(folder: DataFolder) -> Path:
    return folder.path / "postgres" / POSTGRES_MAJOR


def _socket(sockets: Path) -> Path:
    return sockets / f".s.PGSQL.{PORT}"
