"""What the test servers share: finding their files, starting, signalling and outliving a server process.

A server runs in a session of its own, so that Ctrl-C in a terminal reaches pytest alone, and is signalled by pid only:
other test runs on the same machine have servers of the same name.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 20.0
"""Arbitrary: a start takes 0.1 to 2 s on an idle machine; a busy one gets ten times that."""

STOP_SECONDS = 10.0
POLL_SECONDS = 0.01


class ServerFailedError(RuntimeError):
    """A test server did not start or did not stop; the message ends with the tail of its log."""


class PortTakenError(ServerFailedError):
    """Somebody else took the chosen port between the choice and the start."""


def free_port() -> int:
    """Choose a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def package_folder(package: str) -> Path | None:
    """Find the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def wait_until(ready: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path, what: str) -> None:
    """Wait until `ready` says yes; raise with the log's tail if the process ends or the time is over first."""
    give_up_at = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            kind = PortTakenError if "ddress already in use" in tail else ServerFailedError
            message = f"{what} ended with {process.returncode} instead of starting: {tail}"
            raise kind(message)
        if time.monotonic() > give_up_at:
            message = f"{what} was not ready after {START_SECONDS:g} s: {log.read_text(errors='replace')[-2000:]}"
            raise ServerFailedError(message)
        time.sleep(POLL_SECONDS)


def family(pid: int) -> list[int]:
    """List a process and all its descendants, the parent first.

    PostgreSQL's children lead process groups of their own, so a signal to the postmaster's group misses them.
    """
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # The process ended while the list was read.
        parent = int(stat.rpartition(")")[2].split()[1])
        parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(parents.get(member, ()))
    return found


def signal_family(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to a process and all its descendants, the parent first, so that it makes no new ones."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return []
    members = family(pid)
    for member in members[1:]:
        try:
            os.kill(member, number)
        except ProcessLookupError:
            continue  # It ended by itself in the meantime.
    return members


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a server and all its descendants and wait until none of them is left."""
    if process.poll() is not None:
        return
    members = signal_family(process.pid, signal.SIGSTOP)
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(STOP_SECONDS)
    give_up_at = time.monotonic() + STOP_SECONDS
    while any(_is_running(member) for member in members):
        if time.monotonic() > give_up_at:
            message = f"processes {members} outlived SIGKILL"
            raise ServerFailedError(message)
        time.sleep(POLL_SECONDS)


def stop_process(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Ask a server to stop, waking it first if it is paused; kill it if it does not listen."""
    if process.poll() is not None:
        return
    signal_family(process.pid, signal.SIGCONT)
    process.send_signal(number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        kill_family(process)


def tcp_sockets(pid: int) -> list[tuple[int, int]]:
    """List the TCP sockets of a process by their local and remote ports; the remote one of a listener is 0."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # Closed while the list was read.
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    ports = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes:
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            ports.append((local, remote))
    return ports


def _is_running(pid: int) -> bool:
    """Tell whether a process is there and not a zombie waiting for its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
