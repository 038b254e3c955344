"""What happens to the service processes themselves."""

import asyncio
import os
import signal
from random import Random

from tests.coherence.not_possible import NotPossibleError
from tests.coherence.sql_client import DatabaseAwayError
from tests.coherence.world import World
from tests.servers.processes import tcp_sockets

_POLL_SECONDS = 0.02
_DEATH_SECONDS = 5.0
_FROZEN_SECONDS = 4.0
_LEADER_TRIES = 25
_LEADER_TRY_SECONDS = 0.2
_LEADERS = """
    SELECT DISTINCT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'zpmeow relay%'
"""


async def service_killed_in_between(world: World, chance: Random) -> None:
    """Kill a process between a commit and the first word about it, and start it again at once."""
    async with world.service_lock:
        name = world.choose_process(chance)
        service = world.services[name]
        # Nobody can tell a caller in advance which write it will be.
        with world.absence(name):
            service.arm_failpoint()
            alive_at = world.clock()
            give_up_at = alive_at + _DEATH_SECONDS
            while service.is_running and alive_at < give_up_at:
                alive_at = world.clock()
                await asyncio.sleep(_POLL_SECONDS)
            if service.disarm_failpoint():
                message = f"process {name} did not commit anything in {_DEATH_SECONDS:g} s"
                raise NotPossibleError(message)
            with world.fault(service_killed_in_between.__name__, began_at=alive_at):
                await asyncio.to_thread(service.kill)
                world.timeline.note_kill(name, at=world.clock())
                await asyncio.to_thread(service.start)


async def leader_frozen(world: World, _chance: Random) -> None:
    """Stop the process that leads the relay, for longer than its lock may last."""
    async with world.service_lock:
        name = await _find_leader(world)
        service = world.services[name]
        with world.fault(leader_frozen.__name__), world.absence(name):
            os.kill(service.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(_FROZEN_SECONDS)
            finally:
                os.kill(service.pid, signal.SIGCONT)


async def _find_leader(world: World) -> str:
    client = world.sql_client()
    try:
        for _ in range(_LEADER_TRIES):
            try:
                ports = {int(row["client_port"]) for row in await client.fetch(_LEADERS)}
            except DatabaseAwayError:
                ports = set()
            for name, service in world.services.items():
                if ports & {local for local, _remote in tcp_sockets(service.pid)}:
                    return name
            await asyncio.sleep(_LEADER_TRY_SECONDS)
    finally:
        client.close()
    message = "nobody holds an advisory lock under a name that begins with 'zpmeow relay'"
    raise NotPossibleError(message)
