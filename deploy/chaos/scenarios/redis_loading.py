"""Redis restarts with much to load, and answers LOADING meanwhile."""

import asyncio
from pathlib import Path
from random import Random

import redis

from deploy.chaos.harness.expectations import breaker_opens
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.redis_node import RedisNode
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_FILLERS = 2500
_FILLER_BYTES = 8000  # 20 MB in all: Redis 6 answers only after each 2 MB that it has loaded.
_DELAY_MICROSECONDS = 2500  # For each key: six seconds and more.
_ASK_SECONDS = 0.1
_LEAST_ANSWERS = 4  # Half of what a run shows.


async def _inject(world: World) -> None:
    node = world.redis
    await asyncio.to_thread(_fill, node.port)
    snapshot = await asyncio.to_thread(node.save)
    await asyncio.to_thread(node.kill)
    kept, node.options = node.options, (*node.options, "--key-load-delay", str(_DELAY_MICROSECONDS))
    try:
        answers = await _answers_while_loading(node, snapshot)
    finally:
        node.options = kept
    if answers < _LEAST_ANSWERS:
        message = f"Redis has answered LOADING {answers} times, {_LEAST_ANSWERS} are the least"
        raise ServerFailedError(message)


async def _answers_while_loading(node: RedisNode, snapshot: Path) -> int:
    """Start Redis from the snapshot; return how often it said to us meanwhile that it loads."""
    starting = asyncio.create_task(asyncio.to_thread(node.start_from, snapshot))
    answers = 0
    while not starting.done():
        await asyncio.sleep(_ASK_SECONDS)
        try:
            answers += (await asyncio.to_thread(node.command, "GET", "a")).startswith(b"-LOADING")
        except OSError:
            continue  # Not there yet, or busy.
    await starting
    return answers


def _fill(port: int) -> None:
    """Give Redis something to load that cannot be compressed."""
    noise = Random(1)
    with redis.Redis(port=port) as client:
        for number in range(_FILLERS):
            client.set(f"filler:{number}", noise.randbytes(_FILLER_BYTES), ex=60)


SCENARIO = Scenario(
    hypothesis="A Redis that loads is a Redis that is away; then it has old data, and is brought up to date first.",
    fault=f"kill -9 of Redis; at its start it loads for some {_FILLERS * _DELAY_MICROSECONDS / 1e6:.0f} s",
    aborts_when=f"Redis answers LOADING fewer than {_LEAST_ANSWERS} times",
    inject=_inject,
    expects=(breaker_opens,),
)
