"""A real Prometheus for tests, on a free port of 127.0.0.1, that scrapes more often than one in operation."""

import json
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.processes import ServerFailedError, free_port, kill_family, stop_process, wait_until

ANSWER_SECONDS = 10.0
CONFIGURATION = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}
rule_files: [{folder}/rules/*.yml]
scrape_configs:
  - job_name: zpmeow
    static_configs: [{{targets: {targets}}}]
"""


def find_prometheus() -> str | None:
    """Find the program, if it is installed (Debian: prometheus)."""
    return shutil.which("prometheus")


class PrometheusServer:
    """One Prometheus process and what a test asks it."""

    def __init__(
        self, *, program: str, targets: Sequence[str], rules: Mapping[str, str] | None = None, interval: str = "1s"
    ) -> None:
        """Prepare a server that is not started yet.

        Args:
            program: where it is.
            targets: host:port each.
            rules: texts by name of file.
            interval: between two scrapes, in Prometheus' words.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="zpmeow-prometheus-"))
        (self._folder / "rules").mkdir()
        for name, text in (rules or {}).items():
            (self._folder / "rules" / name).write_text(text, encoding="utf-8")
        configuration = CONFIGURATION.format(folder=self._folder, targets=json.dumps(list(targets)), interval=interval)
        (self._folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers queries."""
        log = self._folder / "log"
        arguments = [
            self._program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(self._is_ready, process=self._process, log=log, what="prometheus")

    def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None:
            stop_process(self._process, signal.SIGTERM)
            kill_family(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Ask for an expression's value now: labels and number of each series. A scalar has no labels."""
        found = self._ask("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in found["result"]]

    def query_range(
        self, expression: str, *, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Ask for an expression's values in a time (Unix seconds): labels, and moment and number of each point."""
        found = self._ask("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [
            (series["metric"], [(float(moment), float(value)) for moment, value in series["values"]])
            for series in found["result"]
        ]

    def _ask(self, what: str, **parameters: str) -> Any:  # noqa: ANN401  (JSON)
        data = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}", data=data, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                message = f"Prometheus refused {parameters}: {error.read().decode(errors='replace')}"
            raise ServerFailedError(message) from error

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
                ready: bool = answer.status == 200
                return ready
        except OSError:
            return False
