"""What is measured: zpmeow in its states, and its peers; each a process of its own on the subject's core."""

import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from benchmarks.harness.cores import SUBJECT_CORES, on_cores
from tests.servers.processes import free_port, stop_process, wait_until
from tests.servers.service import REPOSITORY, Service

OPERATOR_KEY = "operator-key-of-the-benchmarks!!"


@dataclass(slots=True, frozen=True, kw_only=True)
class Stores:
    """Where the stores are. `nowhere_url`: of a Redis that is not there."""

    database_url: str
    redis_url: str
    nowhere_url: str = "redis://127.0.0.1:1/0"


class Subject(ABC):
    """One of those that are compared. `headers` go with every request."""

    def __init__(self, name: str) -> None:
        """Give it its name in tables."""
        self.name = name
        self.headers: dict[str, str] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it listens, while it runs."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process, while it runs."""

    @abstractmethod
    def start(self, stores: Stores) -> None:
        """Start, and return when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop, and remove what it has left."""


class Zpmeow(Subject):
    """The service as production runs it, with these settings besides."""

    def __init__(self, name: str, *, redis: str = "redis_url", **settings: str) -> None:
        """`redis` names the address that it is given."""
        super().__init__(name)
        self._redis = redis
        self._settings = settings
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        """The running service."""
        assert self._service is not None
        return self._service

    @property
    @override
    def url(self) -> str:
        return self.service.url

    @property
    @override
    def pid(self) -> int:
        return self.service.pid

    @override
    def start(self, stores: Stores) -> None:
        environment = {
            "DATABASE_URL": stores.database_url,
            "REDIS_URL": getattr(stores, self._redis),
            "GLOBAL_API_KEY": OPERATOR_KEY,
            "LOG_REQUESTS": "false",
            **self._settings,
        }
        self._service = Service(environment=environment)
        with on_cores(SUBJECT_CORES):
            self._service.start()

    @override
    def stop(self) -> None:
        if self._service is not None:
            self._service.close()
            self._service = None


class PeerProcess(Subject):
    """One of `benchmarks.peers`."""

    def __init__(self, name: str, module: str) -> None:
        """Run this module."""
        super().__init__(name)
        self._module = f"benchmarks.peers.{module}"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    @override
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    @override
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @override
    def start(self, stores: Stores) -> None:
        self._port = free_port()
        log = Path(tempfile.mkstemp(prefix="zpmeow-peer-")[1])
        addresses = ["--database-url", stores.database_url, "--redis-url", stores.redis_url]
        try:
            with on_cores(SUBJECT_CORES), log.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module, "--port", str(self._port), *addresses],
                    cwd=REPOSITORY,
                    stdout=output,
                    stderr=output,
                )
            wait_until(self._accepts, process=self._process, log=log, what=self.name)
        finally:
            log.unlink()

    @override
    def stop(self) -> None:
        if self._process is not None:
            stop_process(self._process, signal.SIGTERM)
            self._process = None

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True
