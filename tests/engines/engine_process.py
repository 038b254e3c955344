"""The simulated engine as a process of a test: the example itself, and a trace of all that it did.

A line of the trace is JSON, written at once: what was done (`took`, `did`, `reports`, `reported`), when (wall clock),
of which session and command. SIGUSR2 adds a line with the sessions that it holds.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from typing_extensions import override

from zpmeow.client import Client, ClientError, Command, SessionStatus
from zpmeow.client.client import Reference

EXAMPLE = Path(__file__).parents[2] / "examples" / "simulated_engine.py"


def load_example() -> ModuleType:
    """Import the example, which is no module of a package."""
    specification = importlib.util.spec_from_file_location("simulated_engine", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["simulated_engine"] = module
    specification.loader.exec_module(module)
    return module


class Trace:
    """Lines of a file, each written by one call to the system, so that a kill leaves whole lines."""

    def __init__(self, file: Path) -> None:
        """Append to the file."""
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, what: str, **more: object) -> None:
        """Write a line."""
        line = json.dumps({"what": what, "at": time.time(), "pid": os.getpid(), **more}, default=str)
        os.write(self._descriptor, line.encode() + b"\n")


class TracingClient(Client):
    """Writes down each report before it is sent and after it was answered, and each acknowledgement."""

    trace: Trace

    @override
    async def report(
        self,
        reference: Reference,
        status: SessionStatus,
        *,
        reason: str | None = None,
        valid_for_seconds: int | None = None,
        as_holder: bool = True,
    ) -> None:
        began = time.time()
        self.trace.write("reports", session=reference, status=status, valid_for=valid_for_seconds)
        outcome = "cut off"
        try:
            await super().report(
                reference, status, reason=reason, valid_for_seconds=valid_for_seconds, as_holder=as_holder
            )
            outcome = "ok"
        except ClientError as error:
            outcome = str(error)
            raise
        finally:
            self.trace.write(
                "reported", session=reference, status=status, valid_for=valid_for_seconds, began=began, outcome=outcome
            )

    @override
    async def acknowledge(self, command: Command, *, error: str | None = None) -> None:
        await super().acknowledge(command, error=error)
        self.trace.write("did", session=command.session_id, command=command.id, error=error)


async def main() -> None:
    """Run the engine until it is told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--valid-for", type=int, required=True)
    arguments = parser.parse_args()
    example = load_example()
    trace = Trace(arguments.trace)

    class TracingEngine(example.Engine):  # type: ignore[misc, name-defined]
        """Writes down each command that it begins with."""

        async def obey(self, command: Command) -> None:
            trace.write("took", session=command.session_id, command=command.id, action=command.action)
            await super().obey(command)

    habits = example.Habits(
        name=f"engine-{os.getpid()}",
        valid_for=arguments.valid_for,
        rotate_every=1.0,
        scan_after=2.0,
        reconnect_every=60.0,
    )
    running = asyncio.current_task()
    assert running is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    async with TracingClient(arguments.url, api_key=arguments.api_key) as client:
        client.trace = trace
        engine = TracingEngine(client=client, habits=habits)
        loop.add_signal_handler(signal.SIGUSR2, lambda: trace.write("holds", sessions=list(engine.held)))
        try:
            await engine.run()
        except asyncio.CancelledError:
            trace.write("stopped")


if __name__ == "__main__":
    asyncio.run(main())
