"""Notes when somebody did not come to work: the checker itself, a service process, the database.

This machine may have few cores, and all of the run shares them. What is measured here has nothing to do with caching:
a timer, a path that needs no data, a statement that reads no table.
"""

import asyncio

from tests.coherence.http_client import ConnectionLostError, HttpClient, Request
from tests.coherence.sql_client import DatabaseAwayError
from tests.coherence.timeline import CHECKER, DATABASE
from tests.coherence.world import World

_TICK_SECONDS = 0.01
_ASK_SECONDS = 0.025
_STALL_SECONDS = 0.02  # Shorter ones excuse nothing: half of the smallest delay that needs an excuse is 50 ms.
_LIVE = Request(method="GET", path="/health/live", key="none")


async def watch_checker(world: World) -> None:
    """Note, for ever, when this process was not run."""
    while True:
        due = world.clock() + _TICK_SECONDS
        await asyncio.sleep(_TICK_SECONDS)
        now = world.clock()
        if now - due > _STALL_SECONDS:
            world.timeline.note_stall(CHECKER, due, now)


async def watch_service(world: World, name: str) -> None:
    """Note, for ever, when a service process did not answer at once."""
    client = HttpClient(world.services[name].port)
    try:
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            began = world.clock()
            try:
                await client.ask(_LIVE)
            except (ConnectionLostError, TimeoutError):
                continue  # It is away, which is no stall.
            _note(world, name, began)
    finally:
        client.close()


async def watch_database(world: World) -> None:
    """Note, for ever, when the database did not answer at once."""
    client = world.sql_client()
    try:
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            began = world.clock()
            try:
                await client.fetch("SELECT 1")
            except DatabaseAwayError:
                continue
            _note(world, DATABASE, began)
    finally:
        client.close()


def _note(world: World, who: str, began: float) -> None:
    now = world.clock()
    if now - began > _STALL_SECONDS:
        world.timeline.note_stall(who, began, now)
