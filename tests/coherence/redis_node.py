"""A Redis that keeps its data on disk, and can lose them, go back in time, or follow another one.

It writes an append-only file, so that a killed server has its data at the next start. For a start from a snapshot the
append-only file is thrown away and made anew from what was read.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from tests.servers.processes import ServerFailedError, wait_until
from tests.servers.redis_server import RedisServer

_OPTIONS = ("--appendfsync", "everysec", "--repl-diskless-sync", "no", "--repl-timeout", "5")
_SNAPSHOT = "dump.rdb"


class RedisNode(RedisServer):
    """One Redis server that can be a master or a replica."""

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        """Prepare an empty master that is not started yet; `options` win over its own."""
        super().__init__(options=(*_OPTIONS, "--appendonly", "yes", *options))

    def start_empty(self) -> None:
        """Start without the data of before."""
        self._remove_data()
        self.start()

    def start_from(self, snapshot: Path) -> None:
        """Start with the data of a snapshot that `save` made."""
        self._remove_data()
        shutil.copyfile(snapshot, self.folder / _SNAPSHOT)
        # With an append-only file in use, a server does not look at snapshots.
        kept, self.options = self.options, (*self.options, "--appendonly", "no")
        try:
            self.start()
        finally:
            self.options = kept
        self._must("CONFIG", "SET", "appendonly", "yes")

    def save(self) -> Path:
        """Write a snapshot and return a copy of it."""
        self._must("SAVE")
        return Path(shutil.copyfile(self.folder / _SNAPSHOT, self.folder / "snapshot"))

    def follow(self, port: int) -> None:
        """Become the replica of a master on this port of 127.0.0.1, and return when its data are here."""
        self._must("REPLICAOF", "127.0.0.1", str(port))
        process = self._process
        assert process is not None
        wait_until(self._is_in_step, process=process, log=self.folder / "log", what="the replica")

    def promote(self) -> None:
        """Become a master."""
        self._must("REPLICAOF", "NO", "ONE")

    def _is_in_step(self) -> bool:
        with redis.Redis(port=self.port) as connection:
            raw: Any = connection
            state: dict[str, object] = raw.info("replication")
        return state.get("master_link_status") == "up"

    def _remove_data(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)  # What Redis 7 keeps its append-only files in.
            elif entry.name in {_SNAPSHOT, "appendonly.aof"}:
                entry.unlink()

    def _must(self, *words: str) -> None:
        answer = self.command(*words)
        if not answer.startswith(b"+"):
            message = f"{' '.join(words)} answered {answer!r}"
            raise ServerFailedError(message)
