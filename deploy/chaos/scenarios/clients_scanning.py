"""Somebody tries session ids and keys that nobody has."""

import uuid
from random import Random

from deploy.chaos.harness.expectations import counted, seen_by_the_fault
from deploy.chaos.harness.hostile import connected, crowd, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CLIENTS = 16
_SECONDS = 12.0
_LEAST_GUESSES = 1_400  # Half of what there were when this was written.
_LEAST_HITS = 2_000  # Of the other callers; 4,500 when this was written.


async def _inject(world: World) -> None:
    chance = Random(1)

    async def guess(port: int) -> None:
        unknown = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        name, key = chance.choice(((unknown, OPERATOR_KEY), ("slot-1", f"guess-{unknown}-{unknown}")))
        async with connected(port) as (reader, writer):
            writer.write(
                f"GET /sessions/{name}/info HTTP/1.1\r\nHost: scan.test\r\nConnection: close\r\n"
                f"X-API-Key: {key}\r\n\r\n".encode()
            )
            answer = await reader.read()
            if not answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 404")):
                message = f"a guess was answered {answer[:200]!r}"
                raise ServerFailedError(message)

    rounds = await crowd(world, _CLIENTS, _SECONDS, guess)
    demand(rounds.done, _LEAST_GUESSES, "guesses were refused")


SCENARIO = Scenario(
    hypothesis="What does not exist costs a query and a refusal, and other callers nothing.",
    fault=f"{_CLIENTS} clients, some 240 requests a second for sessions and with keys that do not exist, for"
    f" {_SECONDS:g} s",
    aborts_when="the service accepts no connections",
    inject=_inject,
    expects=(seen_by_the_fault, counted("redis_hits", _LEAST_HITS)),
    disturbs_stores=False,
)
