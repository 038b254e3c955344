"""The embedded servers with real processes: kept over starts, taken once, and no worse after kill -9."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from tests.servers.processes import family
from zpmeow.embedded import DataFolderTaken, DataFolderUnusable, EmbeddedServers, is_available, open_embedded

SERVICE = """
import json, pathlib, sys, time
from zpmeow.embedded import open_embedded
servers = open_embedded(data_dir=pathlib.Path(sys.argv[1]), wants_postgres=True, wants_redis=True)
print(json.dumps([servers.database_url, servers.redis_url]), flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.skipif(not is_available(), reason="the extra `embedded` is not installed")


@pytest.fixture(scope="module")
def used_data_dir() -> Iterator[Path]:
    """A data folder that was used before; initdb is most of the time of a first start."""
    with tempfile.TemporaryDirectory(prefix="zpmeow-") as parent:
        # The servers' account must be able to reach it; pytest's own folders are closed to it.
        Path(parent).chmod(0o711)
        open_embedded(data_dir=Path(parent) / "data", wants_postgres=True, wants_redis=False).close()
        yield Path(parent) / "data"


@pytest.fixture
def data_dir(used_data_dir: Path) -> Iterator[Path]:
    """The used data folder with nothing running in it; what one test leaves there is the next one's past."""
    try:
        yield used_data_dir
    finally:
        _kill_servers_in(used_data_dir)


@pytest.fixture
def own_data_dir(used_data_dir: Path) -> Iterator[Path]:
    """A copy of the used data folder, which the test may damage."""
    parent = Path(tempfile.mkdtemp(prefix="zpmeow-"))
    parent.chmod(0o711)
    try:
        subprocess.run(["cp", "-a", used_data_dir, parent / "data"], check=True, timeout=60)
        yield parent / "data"
    finally:
        _kill_servers_in(parent)
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any of this."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _servers_in(folder: Path) -> list[int]:
    """Find the servers by the folder that their command lines name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(folder) in arguments and ("postgres" in arguments or "redis" in arguments):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def _kill_servers_in(folder: Path) -> None:
    """End what a failed test left running."""
    for pid in _servers_in(folder):
        for member in family(pid):
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue  # It ended with its parent.


def _open(data_dir: Path) -> EmbeddedServers:
    return open_embedded(data_dir=data_dir, wants_postgres=True, wants_redis=True)


async def _execute(servers: EmbeddedServers, statement: str) -> object:
    assert servers.database_url is not None
    connection = await asyncpg.connect(servers.database_url, timeout=10)
    try:
        return await connection.fetchval(statement, timeout=10)
    finally:
        await connection.close(timeout=10)


def _cache(servers: EmbeddedServers) -> "redis.Redis":
    assert servers.redis_url is not None
    return redis.Redis.from_url(servers.redis_url, socket_timeout=5)


def _start_and_kill_service(data_dir: Path) -> None:
    """Start a service of its own, write into its cache, and kill it like `kill -9`; its servers stay."""
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(data_dir)], stdout=subprocess.PIPE)
    try:
        assert service.stdout is not None
        _, redis_url = json.loads(service.stdout.readline())
        with redis.Redis.from_url(redis_url, socket_timeout=5) as cache:
            cache.set("left", "behind")
    finally:
        service.kill()
        service.wait(10)
        assert service.stdout is not None
        service.stdout.close()


async def test_data_and_cache_are_kept_when_stopped_in_order(data_dir: Path) -> None:
    """The second start finds the rows and the cache of the first, and nothing runs in between."""
    with _open(data_dir) as servers:
        await _execute(servers, "CREATE TABLE kept AS SELECT 7 AS number")
        with _cache(servers) as cache:
            cache.set("kept", "8")

    running = _servers_in(data_dir)

    assert running == []
    with _open(data_dir) as servers, _cache(servers) as cache:
        assert await _execute(servers, "SELECT number FROM kept") == 7
        assert cache.get("kept") == b"8"


async def test_postgres_is_durable_and_private_when_running(data_dir: Path) -> None:
    """Commits reach the disk, nothing listens on TCP, and the log quotes no statement and no value."""
    with _open(data_dir) as servers:
        assert await _execute(servers, "SHOW fsync") == "on"
        assert await _execute(servers, "SHOW synchronous_commit") == "on"
        assert await _execute(servers, "SHOW listen_addresses") == ""
        with pytest.raises(asyncpg.PostgresError):
            await _execute(servers, "SELECT 'secret-jid@s.whatsapp.net'::uuid")

    assert (data_dir / "run").stat().st_mode & 0o777 == 0o700
    assert "secret-jid" not in (data_dir / "postgres.log").read_text()


def test_redis_is_bounded_and_private_when_running(data_dir: Path) -> None:
    """The cache evicts what ends first instead of growing, and listens on its socket alone."""
    with _open(data_dir) as servers, _cache(servers) as cache:
        settings = cache.config_get("*")

    assert isinstance(settings, dict)
    assert settings["maxmemory-policy"] == "volatile-ttl"
    assert int(settings["maxmemory"]) == 256 * 1024 * 1024
    assert settings["port"] == "0"


def test_folder_is_taken_when_a_service_runs_in_it(data_dir: Path) -> None:
    """A second service beside the first gets one clear line, and the first is not disturbed."""
    with _open(data_dir) as servers, _cache(servers) as cache:
        with pytest.raises(DataFolderTaken, match=f"{data_dir} is in use by process {os.getpid()}"):
            _open(data_dir)

        assert cache.ping()


async def test_start_succeeds_with_an_empty_cache_when_the_service_was_killed(data_dir: Path) -> None:
    """Servers left behind are replaced, and a cache that may have missed an invalidation is not trusted."""
    _start_and_kill_service(data_dir)
    left_behind = _servers_in(data_dir)

    with _open(data_dir) as servers, _cache(servers) as cache:
        assert cache.dbsize() == 0
        assert await _execute(servers, "SELECT 7") == 7

    assert left_behind
    assert _servers_in(data_dir) == []


async def test_start_succeeds_when_servers_left_behind_are_paused(data_dir: Path) -> None:
    """A server that does not answer is no obstacle."""
    _start_and_kill_service(data_dir)
    for pid in _servers_in(data_dir):
        os.kill(pid, signal.SIGSTOP)

    with _open(data_dir) as servers:
        assert await _execute(servers, "SELECT 7") == 7


async def test_committed_rows_survive_when_everything_was_killed(data_dir: Path) -> None:
    """After kill -9 of all processes at once, pid files and sockets that lie about do no harm."""
    servers = _open(data_dir)
    await _execute(servers, "CREATE TABLE survived AS SELECT 7 AS number")
    for pid in _servers_in(data_dir):
        os.kill(pid, signal.SIGKILL)
    servers.close()

    with _open(data_dir) as servers:
        assert await _execute(servers, "SELECT number FROM survived") == 7


async def test_foreign_process_is_left_alone_when_it_has_the_pid_in_the_pid_file(
    data_dir: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """A pid that was reused neither stops the start nor gets a signal."""
    pid_file = data_dir / "postgres" / "18" / "postmaster.pid"
    pid_file.write_text(f"{bystander.pid}\n{pid_file.parent}\n1\n5432\n/nowhere\n\n 1 1\nready\n")

    with _open(data_dir) as servers:
        assert await _execute(servers, "SELECT 7") == 7

    assert bystander.poll() is None


def test_cache_is_dropped_when_the_database_changed_without_it(data_dir: Path) -> None:
    """A snapshot belongs to one state of the database: a start without Redis in between makes it worthless."""
    with _open(data_dir) as servers, _cache(servers) as cache:
        cache.set("old", "1")
    open_embedded(data_dir=data_dir, wants_postgres=True, wants_redis=False).close()

    with _open(data_dir) as servers, _cache(servers) as cache:
        assert cache.dbsize() == 0


def test_redis_starts_empty_when_its_snapshot_is_damaged(data_dir: Path) -> None:
    """A snapshot that cannot be read (cut off, or of a newer Redis) costs the cache, not the start."""
    with _open(data_dir) as servers, _cache(servers) as cache:
        cache.set("old", "1")
    (data_dir / "redis" / "dump.rdb").write_bytes(b"REDIS9999garbage")

    with _open(data_dir) as servers, _cache(servers) as cache:
        assert cache.dbsize() == 0


def test_initdb_begins_anew_when_it_was_cut_off(own_data_dir: Path) -> None:
    """Half a data folder of PostgreSQL is not taken for a whole one."""
    (own_data_dir / "postgres" / "18").rename(own_data_dir / "postgres" / "unfinished")
    (own_data_dir / "postgres" / "unfinished" / "global" / "pg_control").unlink()

    with _open(own_data_dir) as servers:
        assert servers.database_url is not None


def test_data_of_another_release_are_refused_when_found(own_data_dir: Path) -> None:
    """Nobody's data are passed over in silence for a new, empty database."""
    (own_data_dir / "postgres" / "18").rename(own_data_dir / "postgres" / "17")

    with pytest.raises(DataFolderUnusable, match="holds data of PostgreSQL 17"):
        _open(own_data_dir)


def test_nothing_runs_and_the_folder_is_free_when_a_start_failed(own_data_dir: Path) -> None:
    """A failed start leaves no process and no lock behind."""
    control = own_data_dir / "postgres" / "18" / "global" / "pg_control"
    control.rename(control.with_name("away"))
    with pytest.raises(Exception, match="pg_control"):
        _open(own_data_dir)
    assert _servers_in(own_data_dir) == []
    control.with_name("away").rename(control)

    with _open(own_data_dir) as servers:
        assert servers.data_dir == own_data_dir


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers under another account")
def test_folder_is_refused_and_unchanged_when_closed_to_the_servers_account(data_dir: Path) -> None:
    """As root: a folder that was asked for and cannot be reached is an error, and no permission is changed."""
    wanted = data_dir.parent / "closed" / "data"
    wanted.parent.mkdir(mode=0o700)

    with pytest.raises(DataFolderUnusable, match="cannot be reached by the account 'pgserver'"):
        _open(wanted)

    assert wanted.parent.stat().st_mode & 0o777 == 0o700
    assert not wanted.exists()


def test_describe_names_servers_and_folders_when_running(data_dir: Path) -> None:
    """The person who started the service reads what is embedded and where its data lie."""
    with _open(data_dir) as servers:
        lines = servers.describe()

    assert [line.split(" ")[:2] for line in lines] == [["embedded", "PostgreSQL"], ["embedded", "Redis"]]
    assert all(str(data_dir) in line for line in lines)
