"""The embedded Redis: a bounded cache on a socket in a private folder, that keeps its content over an orderly stop.

A cache that returns with old content would serve what was changed or deleted meanwhile. So the snapshot is written at
an orderly stop only, is marked with the state of the database that it belongs to, is loaded only if the database is
still in that very state, and is removed as soon as it is loaded. After any other end Redis starts empty.
"""

import signal
import socket
from pathlib import Path
from urllib.parse import quote

from zpmeow.embedded.data_folder import DataFolder
from zpmeow.embedded.errors import ServerDidNotStart
from zpmeow.embedded.programs import Program
from zpmeow.embedded.server_process import (
    PROBE_SECONDS,
    ServerProcess,
    StopStep,
    listener_of,
    stop_left_behind,
)

SOCKET_NAME = "redis.sock"
SNAPSHOT_NAME = "dump.rdb"
MAX_MEMORY = "256mb"
START_SECONDS = 30.0
SAVE_SECONDS = 10.0
"""256 MB take about 2 s to write on a slow disk."""

TERMINATE = StopStep(signal=signal.SIGTERM, seconds=5.0)


class EmbeddedRedis:
    """One Redis server under the data folder."""

    def __init__(self, *, program: Program, folder: DataFolder, sockets: Path) -> None:
        """Prepare a server that is not running yet."""
        self._program = program
        self._folder = folder
        self._socket = sockets / SOCKET_NAME
        self._data = folder.private_folder("redis")
        self._snapshot = self._data / SNAPSHOT_NAME
        self._snapshot_of = folder.path / "redis-snapshot-of"
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """The address for redis-py."""
        return f"unix://{quote(str(self._socket))}?db=0"

    def describe(self) -> str:
        """Say in one line what runs and where its data lie."""
        return f"embedded Redis {self._program.version} ({self._program.path}), data in {self._data}"

    def start(self, *, database: str | None) -> None:
        """Start the server and return when it answers.

        Args:
            database: the state of the database before its start; a snapshot of any other state is thrown away.

        Raises:
            ServerDidNotStart: with the tail of its log.
        """
        if database is None or self._marked() != database:
            self._forget_snapshot()
        try:
            self._start_once()
        except ServerDidNotStart:
            if not self._snapshot.exists():
                raise
            # A snapshot that this release cannot read is worth nothing.
            self._forget_snapshot()
            self._start_once()
        self._forget_snapshot()

    def stop(self) -> bool:
        """End the server and tell whether it saved its content; safe to call twice."""
        if self._process is None or not self._process.is_running:
            return False
        saved = self._save()
        self._process.stop(TERMINATE)
        return saved

    def mark_snapshot(self, *, database: str | None) -> None:
        """Note which state of the database the snapshot belongs to; None: to no known one, so it is thrown away."""
        if database is None:
            self._forget_snapshot()
        else:
            self._snapshot_of.write_text(database, encoding="ascii")

    def _marked(self) -> str | None:
        try:
            return self._snapshot_of.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None

    def _forget_snapshot(self) -> None:
        self._snapshot_of.unlink(missing_ok=True)
        self._snapshot.unlink(missing_ok=True)

    def _start_once(self) -> None:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "dbfilename": SNAPSHOT_NAME,
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": MAX_MEMORY,
            # The coherence of the cache needs young entries without a near end to stay.
            "maxmemory-policy": "volatile-ttl",
        }
        arguments: list[str | Path] = [self._program.path]
        for name, value in settings.items():
            arguments += [f"--{name}", value]
        self._process = ServerProcess(
            arguments,
            name="the embedded Redis",
            account=self._folder.account,
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=self._folder.path / "redis.log",
        )
        self._process.wait_until(self._is_ready, seconds=START_SECONDS)

    def _is_ready(self) -> bool:
        return self._answer_to(b"PING\r\n", seconds=PROBE_SECONDS) == b"+PONG"

    def _save(self) -> bool:
        return self._answer_to(b"SAVE\r\n", seconds=SAVE_SECONDS) == b"+OK"

    def _answer_to(self, command: bytes, *, seconds: float) -> bytes:
        """Send one inline command and return the first line of the answer, nothing if there is none in time."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                connection.connect(str(self._socket))
                connection.sendall(command)
                with connection.makefile("rb") as answer:
                    return answer.readline().rstrip(b"\r\n")
        except OSError:
            return b""


def stop_redis_left_behind(sockets: Path) -> None:
    """End the Redis of a service that was killed, if it still runs, and with it what it held.

    The service may have been killed between a commit and its invalidation, so the content is not to be trusted.

    Raises:
        ServerDidNotStop: it cannot be ended from here.
    """
    pid = listener_of(sockets / SOCKET_NAME)
    if pid is not None:
        stop_left_behind(pid, name="the embedded Redis")
