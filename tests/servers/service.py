"""The service itself as a process, on a free port of 127.0.0.1: what `python -m zpmeow serve` is to a user.

It runs in an empty folder of its own, so that no `.env` of the developer has a say, with the settings that a test gives
and none of the test run's own. Its output lies in files, so that a test which reads none of it cannot block it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.servers.processes import POLL_SECONDS, START_SECONDS, ServerFailedError, free_port
from zpmeow.settings import groups

REPOSITORY = Path(__file__).parents[2]
STOP_SECONDS = 30.0
"""Arbitrary: the stop takes 12 s at most by its own rules, embedded servers some more."""

_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_GROUPS = ("Server", "Database", "Cache", "Breaker", "Log", "Embedded")


def own_settings() -> set[str]:
    """Name every environment variable that the service reads."""
    models = [getattr(groups, f"{name}Settings") for name in _GROUPS]
    return {str(field.validation_alias) for model in models for field in model.model_fields.values()}


class Metrics:
    """One scrape of `/metrics` in Prometheus' format."""

    def __init__(self, text: str) -> None:
        """Read the samples."""
        self.text = text
        self._samples: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            found = None if line.startswith("#") else _SAMPLE.fullmatch(line)
            if found is not None:
                labels = dict(_LABEL.findall(found["labels"] or ""))
                self._samples.append((found["name"], labels, float(found["value"])))

    def total(self, metric: str, **labels: str) -> float:
        """Add up the samples of this name that have these labels; one must be there."""
        values = [
            value
            for found, its, value in self._samples
            if found == metric and all(its.get(label.rstrip("_")) == wanted for label, wanted in labels.items())
        ]
        assert values, f"no sample of {metric} with {labels}"
        return sum(values)

    def transitions(self) -> dict[tuple[str, str], int]:
        """Return the breaker's transitions that have happened."""
        return {
            (its["from"], its["to"]): int(value)
            for found, its, value in self._samples
            if found == "zpmeow_breaker_transitions_total" and value
        }


class Service:
    """One service process and what a test does to it."""

    MODULE = "zpmeow"

    def __init__(self, *, environment: Mapping[str, str], port: int | None = None) -> None:
        """Prepare a service that is not started yet; `environment` holds its settings, the port excepted."""
        self._folder = Path(tempfile.mkdtemp(prefix="zpmeow-service-"))
        self._settings = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()

    def __repr__(self) -> str:
        """Show port and pid."""
        return f"Service(port={self.port}, pid={self._process.pid if self._process else None})"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        """Its working directory."""
        return self._folder

    @property
    def pid(self) -> int:
        """The process id of the running service."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """All that it wrote to standard output since the object was made."""
        return self._read("stdout")

    @property
    def errors(self) -> str:
        """All that it wrote to standard error since the object was made."""
        return self._read("stderr")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log, a dictionary a line."""
        return [json.loads(line) for line in self.output.splitlines()]

    def messages(self, module: str | None = None) -> list[str]:
        """Return the log's messages, those of one module if it is named."""
        return [line["message"] for line in self.lines if module is None or line["module"] == module]

    def set(self, **settings: str) -> None:
        """Change settings for the next start."""
        self._settings.update(settings)

    def spawn(self, *arguments: str) -> None:
        """Start the process and do not wait for it."""
        environment = {name: value for name, value in os.environ.items() if name not in own_settings()}
        environment |= {
            "PYTHONPATH": str(REPOSITORY),
            "SERVER_PORT": str(self.port),
            "LOG_FORMAT": "json",
            **self._settings,
        }
        with (self._folder / "stdout").open("ab") as output, (self._folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.MODULE, *(arguments or ("serve",))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=self._folder,
                env=environment,
                start_new_session=True,
            )

    def start(self) -> "Service":
        """Start, and return when it takes traffic."""
        self.spawn()
        self.wait_ready()
        return self

    def run(self, *arguments: str) -> int:
        """Run another command (`migrate`) with the same settings to its end; return its exit code."""
        self.spawn(*arguments)
        return self.wait_ended()

    def wait_ready(self) -> None:
        """Wait until `/health/ready` says yes."""
        self.wait_until(lambda: self.get_status("/health/ready") == 200, "ready")

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> float:
        """Wait until something holds, with the process alive; return how long that took, in seconds."""
        began = time.monotonic()
        while not holds():
            if not self.is_running:
                message = f"the service ended with {self._process and self._process.returncode}: {self._tail()}"
                raise ServerFailedError(message)
            if time.monotonic() - began > seconds:
                message = f"not {what} after {seconds:g} s: {self._tail()}"
                raise ServerFailedError(message)
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def wait_ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the process to end by itself and return its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        os.kill(self.pid, signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.is_running:
            self.terminate()
        return self.wait_ended()

    def kill(self) -> None:
        """SIGKILL to this process alone, so that what it started is left behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """End it, whatever it does, and remove its folder; what it started gets a chance to end in order."""
        if self.is_running:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def get_status(self, path: str) -> int | None:
        """Return the status of one GET, None if nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def metrics(self) -> Metrics:
        """Scrape `/metrics` as Prometheus does."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Accept": "text/plain"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return Metrics(answer.read().decode())

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""

    def _tail(self) -> str:
        return f"{self.output[-2000:]} {self.errors[-2000:]}"
