"""One server process: started in a session of its own, recognised again by the next service, ended without fail.

A server is recognised by its socket: the folder of the socket is private, and the kernel tells who listens there
(SO_PEERCRED), so neither a stale pid file nor a pid that is another program's by now can mislead. Where
the socket was removed, the command line of the process must name the data folder.
"""

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zpmeow.embedded.errors import ServerDidNotStart, ServerDidNotStop
from zpmeow.embedded.server_account import ServerAccount

POLL_SECONDS = 0.01
KILL_SECONDS = 5.0
LOG_TAIL_BYTES = 2000
PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStep:
    """A signal and how long it may take until the process is gone."""

    signal: signal.Signals
    seconds: float


KILL = StopStep(signal=signal.SIGKILL, seconds=KILL_SECONDS)


class ServerProcess:
    """A server that this process started."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        name: str,
        account: ServerAccount,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        """Start it. Its output goes to `log`; the output of the start before is kept beside it as `.1`."""
        self.name = name
        self._log = log
        if log.exists():
            log.replace(log.with_name(f"{log.name}.1"))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own programs and settings)
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
                umask=0o077,
                user=account.uid if account.is_switched else None,
                group=account.gid if account.is_switched else None,
                extra_groups=[] if account.is_switched else None,
            )
        finally:
            os.close(output)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until the server answers.

        Raises:
            ServerDidNotStart: it ended, or the time is over; in both cases it is not running any more.
        """
        give_up_at = time.monotonic() + seconds
        while not is_ready():
            ended = self._process.poll()
            if ended is not None:
                message = f"{self.name} ended with status {ended} instead of starting: {self._log_tail()}"
                raise ServerDidNotStart(message)
            if time.monotonic() > give_up_at:
                self.stop(KILL)
                message = f"{self.name} did not answer within {seconds:g} s: {self._log_tail()}"
                raise ServerDidNotStart(message)
            time.sleep(POLL_SECONDS)

    def stop(self, *steps: StopStep) -> None:
        """End the server by the gentlest step that works; safe to call when it has ended by itself."""
        for step in (*steps, KILL):
            if self._process.poll() is not None:
                return
            self._process.send_signal(step.signal)
            # A server that was paused hears the signal only when it is continued.
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(step.seconds)
            except subprocess.TimeoutExpired:
                continue

    def _log_tail(self) -> str:
        """Give the end of the log in one line, with where to find the rest."""
        tail = self._log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
        return f"{' | '.join(tail.split(chr(10))).strip(' |')} ({self._log})"


def run_to_end(
    arguments: Sequence[str | Path],
    *,
    name: str,
    account: ServerAccount,
    environment: Mapping[str, str],
    seconds: float,
) -> None:
    """Run a helper program of a server under the servers' account.

    Raises:
        ServerDidNotStart: it failed or took too long.
    """
    try:
        done = subprocess.run(  # noqa: S603  (our own programs and settings)
            arguments,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
            umask=0o077,
            user=account.uid if account.is_switched else None,
            group=account.gid if account.is_switched else None,
            extra_groups=[] if account.is_switched else None,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{name} did not end within {seconds:g} s"
        raise ServerDidNotStart(message) from error
    if done.returncode:
        message = (
            f"{name} ended with status {done.returncode}: {' | '.join(done.stderr.split(chr(10)))[-LOG_TAIL_BYTES:]}"
        )
        raise ServerDidNotStart(message)


def listener_of(path: Path) -> int | None:
    """Return the pid of the process that listens on a unix socket, None if nobody does.

    Raises:
        ServerDidNotStop: somebody listens that this process cannot see (in another container).
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            message = f"{path}: a server of an earlier start does not accept connections ({error})"
            raise ServerDidNotStop(message) from error
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    if pid == 0:
        message = f"{path}: a server of an earlier start is running where this process cannot end it (a container?)"
        raise ServerDidNotStop(message)
    return pid


def stop_left_behind(pid: int, *steps: StopStep, name: str) -> None:
    """End a server that an earlier service left running, by the gentlest step that works.

    Raises:
        ServerDidNotStop: it belongs to another user, or outlives even SIGKILL.
    """
    started = _start_ticks(pid)
    for step in (*steps, KILL):
        if started is None:
            return
        try:
            os.kill(pid, step.signal)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return
        except PermissionError as error:
            message = (
                f"{name} of an earlier start (process {pid}) belongs to another user: stop it, or start as that user"
            )
            raise ServerDidNotStop(message) from error
        give_up_at = time.monotonic() + step.seconds
        while time.monotonic() < give_up_at:
            if _start_ticks(pid) != started:
                return
            time.sleep(POLL_SECONDS)
    message = f"{name} of an earlier start (process {pid}) cannot be ended"
    raise ServerDidNotStop(message)


def arguments_of(pid: int) -> list[str]:
    """Return the command line of a process, nothing if there is no such process (or only a zombie)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="surrogateescape").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _start_ticks(pid: int) -> int | None:
    """Return when a process was started, which tells it from a later one of the same pid; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A zombie has ended; nobody may ever collect it in a container without an init process.
    return None if fields[0] in {"Z", "X"} else int(fields[19])
