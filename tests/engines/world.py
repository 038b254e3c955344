"""What a run consists of: PostgreSQL, Redis, two service processes behind a balancer, three engines; and faults."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Self

from tests.engines.balancer import Balancer
from tests.servers.postgres_server import PostgresInstallation, PostgresServer
from tests.servers.redis_server import RedisServer
from tests.servers.service import REPOSITORY, Service

OPERATOR_KEY = "operator-key-of-the-engines-run"
ENGINE_KEY = "engine-key-of-the-engines-run!!!"
SERVICES = 2
ENGINES = 3
FROZEN_SECONDS = 12.0


class EngineProcess:
    """One place for an engine: a process after the other runs there, and all write one trace."""

    def __init__(self, *, url: str, trace: Path, valid_for: int) -> None:
        """Prepare."""
        self._command = [
            *(sys.executable, "-m", "tests.engines.engine_process"),
            *("--url", url, "--api-key", ENGINE_KEY, "--trace", str(trace), "--valid-for", str(valid_for)),
        ]
        self._output = trace.with_suffix(".log")
        self.trace = trace
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        """Show the pid."""
        return f"EngineProcess(pid={self.process.pid if self.process else None})"

    def start(self) -> None:
        """Start a process."""
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(self._command, cwd=REPOSITORY, stdout=output, stderr=output)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the process to end."""
        assert self.process is not None
        return self.process.wait(30)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        """Return what all its processes printed."""
        return self._output.read_text()


class World:
    """Everything, running. Faults are written down with their times."""

    def __init__(self, *, installation: PostgresInstallation, chance: Random, valid_for: int) -> None:
        """Prepare; `async with` starts all."""
        self._chance = chance
        self._valid_for = valid_for
        self._folder = Path(tempfile.mkdtemp(prefix="zpmeow-engines-"))
        self.postgres = PostgresServer(installation=installation)
        self.redis = RedisServer()
        self.services: list[Service] = []
        self.engines: list[EngineProcess] = []
        self.faults: list[tuple[str, float, float]] = []
        self.database_url = ""
        self._stack = AsyncExitStack()
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._busy: set[object] = set()

    @property
    def url(self) -> str:
        """Where users and engines call."""
        return self.balancer.url

    async def __aenter__(self) -> Self:
        """Start all."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all."""
        await self._stack.aclose()

    async def _start(self) -> None:
        for server in (self.postgres, self.redis):
            self._stack.push_async_callback(asyncio.to_thread, server.close)
            await asyncio.to_thread(server.start)
        self.database_url = await asyncio.to_thread(self.postgres.create_database, "engines")
        environment = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis.url,
            "GLOBAL_API_KEY": OPERATOR_KEY,
            "ENGINE_API_KEY": ENGINE_KEY,
            "LOG_REQUESTS": "false",
        }
        for _ in range(SERVICES):
            service = Service(environment=environment)
            self._stack.push_async_callback(asyncio.to_thread, service.close)
            await asyncio.to_thread(service.start)
            self.services.append(service)
        self.balancer = Balancer(ports=[service.port for service in self.services], chance=self._chance)
        await self.balancer.open()
        self._stack.push_async_callback(self.balancer.close)
        for number in range(ENGINES):
            trace = self._folder / f"engine-{number}.jsonl"
            engine = EngineProcess(url=self.url, trace=trace, valid_for=self._valid_for)
            engine.start()
            self._stack.callback(_end, engine)
            self.engines.append(engine)

    def traces(self) -> list[dict[str, Any]]:
        """Return all lines of all traces, in the order of their times."""
        texts = [engine.trace.read_text() for engine in self.engines if engine.trace.exists()]
        lines = [json.loads(line) for text in texts for line in text.splitlines()]
        return sorted(lines, key=lambda line: float(line["at"]))

    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the faults by name."""
        return {
            "engine killed": lambda: self._of(self.engines, self._kill_engine),
            "engine stopped": lambda: self._of(self.engines, self._stop_engine),
            "engine frozen": lambda: self._of(self.engines, self._freeze_engine),
            "service killed": lambda: self._of(self.services, self._kill_service),
            "service stopped": lambda: self._of(self.services, self._stop_service),
            "redis killed": lambda: self._of([self.redis], self._kill_redis),
        }

    async def break_one(self, kind: str) -> None:
        """Let one fault of this kind happen and pass."""
        began = time.time()
        await self.kinds()[kind]()
        self.faults.append((kind, began, time.time()))

    async def _of(self, many: list[Any], do: Callable[[Any], Awaitable[None]]) -> None:
        """Do it to one of many that nothing else is done to."""
        free = [one for one in many if id(one) not in self._busy]
        if not free:
            return
        one = self._chance.choice(free)
        self._busy.add(id(one))
        try:
            await do(one)
        finally:
            self._busy.discard(id(one))

    async def _kill_engine(self, engine: EngineProcess) -> None:
        engine.send(signal.SIGKILL)
        await asyncio.to_thread(engine.wait)
        await asyncio.sleep(self._chance.uniform(0, 4))
        engine.start()

    async def _stop_engine(self, engine: EngineProcess) -> None:
        engine.send(signal.SIGTERM)
        await asyncio.to_thread(engine.wait)
        await asyncio.sleep(self._chance.uniform(0, 4))
        engine.start()

    async def _freeze_engine(self, engine: EngineProcess) -> None:
        engine.send(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        engine.send(signal.SIGCONT)

    async def _kill_service(self, service: Service) -> None:
        await asyncio.to_thread(service.kill)
        await asyncio.sleep(self._chance.uniform(0, 3))
        await asyncio.to_thread(service.start)

    async def _stop_service(self, service: Service) -> None:
        await asyncio.to_thread(service.stop)
        await asyncio.to_thread(service.start)

    async def _kill_redis(self, redis: RedisServer) -> None:
        await asyncio.to_thread(redis.kill)
        await asyncio.sleep(self._chance.uniform(0.5, 4))
        await asyncio.to_thread(redis.start)


def _end(engine: EngineProcess) -> None:
    if engine.process is not None and engine.process.poll() is None:
        os.kill(engine.pid, signal.SIGKILL)
        engine.process.wait(30)
