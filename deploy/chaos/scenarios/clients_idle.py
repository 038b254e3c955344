"""A thousand clients connect and say nothing."""

import asyncio
from contextlib import AsyncExitStack

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import Streams, connected, demand
from deploy.chaos.harness.scenario import Scenario
from tests.coherence.world import World
from tests.servers.processes import tcp_sockets

_CLIENTS = 1000
_SECONDS = 10.0  # The service lets them be for 75.
_ANSWER_SECONDS = 2.0
_REQUEST = b"GET /health/live HTTP/1.1\r\nHost: idle.test\r\n\r\n"


async def _inject(world: World) -> None:
    ports = [service.port for service in world.services.values()]
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(ports[number % len(ports)])) for number in range(_CLIENTS)]
        await asyncio.sleep(_SECONDS)
        demand(await asyncio.to_thread(_accepted, world, idle), _CLIENTS, "idle connections are held by the service")
        # One after the other: the load is to see idle clients, and no burst of a thousand requests.
        answered = [await _is_answered(reader, writer) for reader, writer in idle]
        demand(sum(answered), _CLIENTS, "connections are answered after they were idle")


def _accepted(world: World, idle: list[Streams]) -> int:
    """Return how many of them the processes have: those that wait in a port's queue are nobody's yet."""
    ours = {writer.get_extra_info("sockname")[1] for _, writer in idle}
    return sum(
        remote in ours
        for service in world.services.values()
        for local, remote in tcp_sockets(service.pid)
        if local == service.port
    )


async def _is_answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_REQUEST)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except (ConnectionError, TimeoutError):
        return False


SCENARIO = Scenario(
    hypothesis="An idle connection costs a file descriptor and some kilobytes, and nobody else anything; it is served"
    " when it wakes up.",
    fault=f"{_CLIENTS} connections without a request for {_SECONDS:g} s, then with one each",
    aborts_when="the service accepts no connections or ends idle ones, or this machine has no descriptors left",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
