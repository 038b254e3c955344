"""The log of a real service when who should read it does not."""

import asyncio
import os
from pathlib import Path

from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer

REQUESTS = 1_000
"""Their lines take several times what a pipe holds (64 KiB)."""


async def test_requests_go_on_when_the_log_hangs(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller, tmp_path: Path
) -> None:
    """A file that takes no more stands for a disk that hangs: all is answered, standard output has all lines."""
    hanging = tmp_path / "log"
    os.mkfifo(hanging)
    reader = os.open(hanging, os.O_RDONLY | os.O_NONBLOCK)  # And never reads.
    try:
        service = new_service(DATABASE_URL=database_url, REDIS_URL=redis_server.url, LOG_FILE=str(hanging)).start()
        caller = new_caller(service)
        answers = []
        for _ in range(REQUESTS // 100):
            answers += await asyncio.gather(*(caller.get("/sessions/list") for _ in range(100)))
        code = await asyncio.to_thread(service.stop)
    finally:
        os.close(reader)

    assert {answer.status for answer in answers} == {200}
    assert code == 0
    told = [line for line in service.lines if line["module"] == "http" and line["route"] == "/sessions/list"]
    assert len(told) == REQUESTS
