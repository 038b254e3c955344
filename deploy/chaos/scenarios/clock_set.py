"""The clock of the service's machine is set forward by an hour, then back by one."""

import asyncio
import time
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError
from tests.servers.service import Service

_EACH_SECONDS = 8.0
_TOLERANCE_SECONDS = 5.0
_OFFSETS = ("+3600", "-3600", "+0")
_FILE_NAME = "clock"  # Each process has one in its own folder.
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


async def _inject(world: World) -> None:
    if not _LIBRARIES:
        message = "libfaketime is not installed (Debian: apt-get install faketime)"
        raise ServerFailedError(message)
    for offset in _OFFSETS:
        for service in world.services.values():
            await asyncio.to_thread(_set, service, offset)
            await asyncio.to_thread(service.wait_until, partial(_is_set, service, int(offset)), f"{offset} s ahead")
        await asyncio.sleep(_EACH_SECONDS)


def _set(service: Service, offset: str) -> None:
    """Set the clock of a process, which must never find half of a file."""
    written = service.folder / f"{_FILE_NAME}.new"
    written.write_text(offset, encoding="ascii")
    written.replace(service.folder / _FILE_NAME)


def _is_set(service: Service, offset_seconds: int) -> bool:
    """Tell whether the process goes by the clock that it was given."""
    with urllib.request.urlopen(f"{service.url}/health/live", timeout=5) as answer:
        shown = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    return abs(shown - time.time() - offset_seconds) <= _TOLERANCE_SECONDS


def _settings() -> Mapping[str, str]:
    return {
        "LD_PRELOAD": str(_LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": _FILE_NAME,
        "FAKETIME_CACHE_DURATION": "1",  # Without it each look at the clock reads the file.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


SCENARIO = Scenario(
    hypothesis="Freshness and expiry go by the database's clock, waits by a clock that is never set: nobody notices.",
    fault=f"the processes' wall clock is an hour fast for {_EACH_SECONDS:g} s, then an hour slow for as long",
    aborts_when="libfaketime is not installed",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
    settings=_settings() if _LIBRARIES else {},
)
