"""Commands on their way to engines, through two processes and real servers."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

import asyncpg
import pytest

from tests.acceptance.real.caller import ENGINE_KEY, OPERATOR_KEY, Caller, Reply
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.engines.balancer import Balancer
from tests.servers.redis_server import RedisServer
from zpmeow.client import Client, Command, work

ENGINES = 1000


async def poll(caller: Caller, *, wait: int = 0, cursor: str = "") -> Reply:
    """Ask for commands."""
    return await caller.get(f"/engine/commands?wait={wait}&cursor={cursor}", key=ENGINE_KEY)


def actions(reply: Reply) -> list[str]:
    """Return what is to be done."""
    assert reply.status == 200, reply.body
    return [command["action"] for command in reply.data["commands"]]


@pytest.fixture
def settings(redis_server: RedisServer, database_url: str) -> dict[str, str]:
    """Settings of a service on the shared servers, in a database of its own."""
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_server.url, "LOG_REQUESTS": "false"}


@pytest.mark.parametrize("cache", ["true", "false"])
async def test_a_command_reaches_an_engine_that_waits_at_another_process(
    settings: dict[str, str], new_service: MakeService, new_caller: MakeCaller, cache: str
) -> None:
    """A wish at one process, or by psql, ends a wait at another, with or without a cache."""
    first, second = [new_caller(new_service(**settings, CACHE_ENABLED=cache).start()) for _ in range(2)]
    session = await first.create("wanted")
    waiting = asyncio.create_task(poll(second, wait=30))
    await asyncio.sleep(0.3)

    began = time.monotonic()
    await first.call("POST", "/sessions/wanted/connect")
    connect = await waiting
    (command,) = connect.data["commands"]
    await second.call("POST", f"/engine/commands/{command['id']}/ack", {"ok": True}, key=ENGINE_KEY)
    waiting = asyncio.create_task(poll(second, wait=30, cursor=connect.data["next_cursor"]))
    await asyncio.sleep(0.3)
    psql = await asyncpg.connect(settings["DATABASE_URL"])
    try:
        await psql.execute("DELETE FROM sessions")
    finally:
        await psql.close()

    assert actions(connect) == ["connect"]
    assert actions(await waiting) == ["delete"]
    assert command["session_id"] == session.id
    assert time.monotonic() - began < 25  # Neither wait came to its end.


async def test_a_thousand_engines_wait_without_asking_the_database(
    settings: dict[str, str],
    new_service: MakeService,
    new_caller: MakeCaller,
    note: Callable[[str, object], None],
) -> None:
    """While they wait no query is sent for them and no connection held; a command costs a few and goes to one."""
    service = new_service(**settings).start()
    caller = new_caller(service)
    await caller.create("wanted")

    def takes() -> float:
        return service.metrics().total("zpmeow_db_query_duration_seconds_count", query="take_commands")

    async def all_asked() -> bool:
        return takes() >= ENGINES

    waiting = [asyncio.create_task(poll(caller, wait=60)) for _ in range(ENGINES)]
    await caller.until("asked by all", all_asked, seconds=30)
    await asyncio.sleep(0.5)
    cpu, asked = _cpu_seconds(service.pid), takes()
    await asyncio.sleep(5)
    cpu, quiet = _cpu_seconds(service.pid) - cpu, takes()
    in_use = service.metrics().total("zpmeow_db_pool_connections", state="in_use")
    wish = await caller.call("POST", "/sessions/wanted/connect")
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    await asyncio.sleep(0.3)
    served = [task for task in waiting if task.done()]
    after = takes()
    service.terminate()
    replies = await asyncio.gather(*waiting)

    note("CPU of the process with 1,000 waiting engines, % of a core", cpu / 5 * 100)
    assert wish.status == 200
    assert asked == quiet <= ENGINES + 1
    assert in_use == 0
    assert len(done) == len(served) == 1
    assert after - quiet <= 3
    assert sorted(len(reply.data["commands"]) for reply in replies) == [0] * (ENGINES - 1) + [1]
    assert {reply.status for reply in replies} == {200}


async def test_a_command_is_found_when_the_feed_was_cut_off_while_it_came(
    settings: dict[str, str], new_service: MakeService, new_caller: MakeCaller
) -> None:
    """What nobody was told of is looked for when the feed is open again."""
    caller = new_caller(new_service(**settings).start())
    await caller.create("wanted")
    psql = await asyncpg.connect(settings["DATABASE_URL"])
    try:
        waiting = asyncio.create_task(poll(caller, wait=30))
        await asyncio.sleep(0.3)
        async with psql.transaction():
            # The feed's connection ends before the commit, and is not back before it.
            await psql.execute("UPDATE session_status SET desired_status = 'connected'")
            await psql.execute("SELECT leave_command(id, 'connect', NULL) FROM sessions")
            await psql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'zpmeow feed' AND datname = current_database()"
            )
    finally:
        await psql.close()

    assert actions(await asyncio.wait_for(waiting, 10)) == ["connect"]


async def test_a_command_comes_back_thirty_seconds_after_its_engine_died(
    settings: dict[str, str], new_service: MakeService, new_caller: MakeCaller
) -> None:
    """No word for 30 s: another engine, at another process, gets it without asking twice."""
    first, second = [new_caller(new_service(**settings).start()) for _ in range(2)]
    await first.create("wanted")
    await first.call("POST", "/sessions/wanted/connect")
    lost = await poll(first)
    began = time.monotonic()

    again = await poll(second, wait=50)

    assert actions(lost) == actions(again) == ["connect"]
    assert 29 < time.monotonic() - began < 45


async def test_what_an_engine_did_not_get_is_delivered_again_when_it_asks_with_its_old_cursor(
    settings: dict[str, str], new_service: MakeService, new_caller: MakeCaller
) -> None:
    """An answer that was lost with its process costs no 30 s: the cursor tells what has arrived."""
    first, second = [new_caller(new_service(**settings).start()) for _ in range(2)]
    await first.create("wanted")
    cursor = (await poll(first)).data["next_cursor"]
    await first.call("POST", "/sessions/wanted/connect")
    lost = await poll(first, cursor=cursor)
    first.service.kill()

    again = await poll(second, cursor=cursor)
    after = await poll(second, cursor=again.data["next_cursor"])

    assert [command["id"] for command in again.data["commands"]] == [command["id"] for command in lost.data["commands"]]
    assert after.data["commands"] == []


async def test_no_command_is_lost_or_done_twice_when_one_of_two_processes_is_stopped(
    settings: dict[str, str], new_service: MakeService, new_caller: MakeCaller
) -> None:
    """Long polls behind a balancer: each process is stopped and started in turn while commands come."""
    services = [new_service(**settings).start() for _ in range(2)]
    balancer = Balancer(ports=[service.port for service in services], chance=Random(1))
    await balancer.open()
    done: list[UUID] = []

    async def handle(command: Command) -> None:
        done.append(command.session_id)

    async def restart() -> None:
        for service in services:
            await asyncio.sleep(0.7)
            await asyncio.to_thread(service.stop)
            await asyncio.to_thread(service.start)

    async with (
        Client(balancer.url, api_key=OPERATOR_KEY) as owner,
        Client(balancer.url, api_key=ENGINE_KEY) as first,
        Client(balancer.url, api_key=ENGINE_KEY) as second,
    ):
        working = [asyncio.create_task(work(engine, handle)) for engine in (first, second)]
        restarting = asyncio.create_task(restart())
        sessions: list[UUID] = []
        while not restarting.done():
            sessions.append((await owner.create_session(f"session-{len(sessions)}")).session.id)
            await owner.connect(sessions[-1])
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while len(done) < len(sessions):  # noqa: ASYNC110  (what is waited for is inside the services)
                await asyncio.sleep(0.05)
        for task in working:
            task.cancel()
        await asyncio.wait(working)
    await balancer.close()

    assert [await asyncio.to_thread(service.stop) for service in services] == [0, 0]
    assert len(sessions) > 20
    assert sorted(done) == sorted(sessions)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
