"""What commands call: the service from its start to its stop, and the migration."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

from zpmeow import __version__
from zpmeow.api.server import ListenError
from zpmeow.bootstrap.application import open_application
from zpmeow.bootstrap.stores import Stores, open_stores
from zpmeow.domain.errors import Unavailable
from zpmeow.embedded import EmbeddedError
from zpmeow.postgres import migrations
from zpmeow.postgres.migrations import MigrationError
from zpmeow.settings import Settings
from zpmeow.telemetry.logs import Logs, open_logs

T = TypeVar("T")

_COLLECTION_THRESHOLDS = (10_000, 10, 10)
"""With Python's own (700, 10, 10), a third of the CPU of a read without a cache went into looking for garbage (310 µs
instead of 190), nearly all of which is not garbage but requests under way. Cycles wait a little longer, that is all."""

_EXPECTED = (EmbeddedError, ListenError, MigrationError, Unavailable)


def serve(settings: Settings) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit status: 0 after a stop, 1 if it cannot run."""
    try:
        logs = open_logs(
            level=settings.log.level,
            log_format=settings.log.format,
            file=settings.log.file,
            secrets=settings.secrets(),
        )
    except OSError as error:
        return _refuse(f"LOG_FILE cannot be written: {error}")
    try:
        with open_stores(settings) as stores:
            return _run(_serve(settings, stores, logs))
    except _EXPECTED as error:
        return _refuse(str(error))
    finally:
        logs.close()


def migrate(settings: Settings) -> int:
    """Bring the database to the newest schema; return the exit status."""
    try:
        with open_stores(settings) as stores:
            applied = _run(migrations.migrate(url=stores.database_url))
    except _EXPECTED as error:
        return _refuse(str(error))
    for name in applied:
        print(f"applied {name}")  # noqa: T201  (a command's answer)
    if not applied:
        print("the schema is up to date")  # noqa: T201  (as above)
    return 0


async def _serve(settings: Settings, stores: Stores, logs: Logs) -> int:
    logger = logs.logger("service")
    for warning in settings.warnings():
        logger.warning(warning)
    for note in stores.notes:
        logger.info(note)
    if settings.server.global_api_key is None:
        logger.warning("GLOBAL_API_KEY is not set: whoever reaches this machine's loopback address may do everything")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_application(settings=settings, stores=stores, logs=logs) as application:
        logger.info("zpmeow %s listens on http://%s:%s", __version__, _shown(settings.server.host), application.port)
        _collect_less()
        starting, stopping = asyncio.create_task(application.start()), asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
        starting.cancel()
        stopping.cancel()
        logger.info("Stopping: running requests get 10 s at most")
        await application.stop()
    logger.info("Stopped")
    return 0


def _collect_less() -> None:
    """Leave what the start has made, which stays, out of every collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTION_THRESHOLDS)


def _run(main: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _shown(host: str) -> str:
    """Write an address of IPv6 in brackets, as URLs want it."""
    return f"[{host}]" if ":" in host else host


def _refuse(message: str) -> int:
    print(f"zpmeow: {message}", file=sys.stderr)  # noqa: T201  (the one clear line)
    return 1
