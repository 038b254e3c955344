"""Somebody writes garbage under live keys: noise, half values, other keys' values, values of other types."""

import asyncio
from random import Random

import redis

from deploy.chaos.harness.expectations import breaker_stays_closed, counted
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat
from tests.coherence.world import World

_SECONDS = 10.0
_PAUSE_SECONDS = 0.25
_RATIO = 0.3


async def _inject(world: World) -> None:
    chance = Random(1)

    async def spoil() -> None:
        await asyncio.to_thread(_spoil, world.redis.port, chance)

    await repeat(_SECONDS, _PAUSE_SECONDS, spoil)


def _spoil(port: int, chance: Random) -> None:
    with redis.Redis(port=port) as client:
        keys = [key for key in client.scan_iter("zpmeow:{*", count=1000) if chance.random() < _RATIO]
        for key, other in zip(keys, reversed(keys), strict=True):
            value = client.get(key) if client.type(key) == b"string" else b"gone"
            if not isinstance(value, bytes) or not value:
                continue
            match chance.randrange(5):
                case 0:
                    client.set(key, chance.randbytes(len(value)), ex=60)
                case 1:
                    client.set(key, value[: len(value) // 2], ex=60)
                case 2:
                    client.set(other, value, ex=60)
                case 3:
                    with client.pipeline() as both:
                        both.delete(key).rpush(key, value)
                        both.execute()
                case _:
                    client.set(key, value + value, ex=60)


SCENARIO = Scenario(
    hypothesis="Garbage is a miss: counted, removed, loaded again. No breaker opens for it.",
    fault=f"each {_PAUSE_SECONDS:g} s garbage under {_RATIO:.0%} of all keys, for {_SECONDS:g} s",
    aborts_when="Redis refuses to take it",
    inject=_inject,
    expects=(counted("corrupt", 10), breaker_stays_closed),
    leaves_garbage=True,
)
