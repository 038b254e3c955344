"""The manual test that users of the original know, word by word, against the running service."""

import json
import shlex
import shutil
import subprocess

from tests.acceptance.real.caller import HIT, MISS
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.redis_server import RedisServer

CREATE = """curl -X POST http://localhost:8080/sessions/create -H "Content-Type: application/json" \
-d '{"name": "test-session"}'"""


def run_like_a_user(command: str, port: int) -> dict[str, object]:
    """Run a curl command of the manual against the service's port and return the answer."""
    program, *arguments = shlex.split(command.replace("localhost:8080", f"localhost:{port}"))
    done = subprocess.run(
        [program, "--silent", "--show-error", "--write-out", "\n%{http_code}", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    body, _, status = done.stdout.rpartition("\n")
    return {"status": int(status), **json.loads(body)}


async def test_manual_test_of_the_original_works_unchanged(
    redis_server: RedisServer, database_url: str, new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Create, look at the metrics, read twice, follow the log: what the original's manual promises holds."""
    service = new_service(
        DATABASE_URL=database_url,
        REDIS_HOST="localhost",
        REDIS_PORT=str(redis_server.port),
        GLOBAL_API_KEY="",
        ENGINE_API_KEY="",
        CACHE_LOCAL_MAX_BYTES="0",
        LOG_LEVEL="debug",
        LOG_FILE="log/app.log",
    ).start()
    caller = new_caller(service)

    if shutil.which("curl"):
        created = run_like_a_user(CREATE, service.port)
        metrics = run_like_a_user("curl http://localhost:8080/metrics", service.port)
    else:
        reply = await caller.call("POST", "/sessions/create", {"name": "test-session"}, key=None)
        created = {"status": reply.status, "data": reply.data}
        metrics = {"data": (await caller.get("/metrics", key=None)).data}
    await caller.get("/sessions/test-session/info", key=None)
    second = await caller.get("/sessions/test-session/info", key=None)
    redis_server.flush()
    after_flush = await caller.get("/sessions/test-session/info", key=None)

    assert created["status"] == 201
    assert metrics["data"]["cache"]["connected"] is True  # type: ignore[index]
    assert metrics["data"]["cache"]["total_keys"] > 0  # type: ignore[index]
    assert (second.status, second.cache_status) == (200, HIT)
    assert (after_flush.status, after_flush.cache_status) == (200, MISS)
    log = service.folder / "log" / "app.log"
    service.wait_until(lambda: "Cache MISS for session test-session" in log.read_text(), "told in the log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line["message"] for line in lines if line["module"] == "cached-repo"]
    assert told.index("Cache HIT for session test-session") < told.index(
        "Cache MISS for session test-session, fetching from database"
    )
