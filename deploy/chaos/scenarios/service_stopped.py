"""A service process is stopped in its orderly way under load; the other one goes on.

Beside the load, connections of our own to the process that stops look at what the load cannot tell apart: two ask for
its readiness, one has been idle so far, and one has begun a request whose body is still to come.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import Streams, connected
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import until_stopped
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.http_client import Request
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError
from tests.servers.service import Service

_AWAY_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.02
_READY = Request(method="GET", path="/health/ready", key="none")
_READ = Request(method="GET", path="/sessions/list", key=OPERATOR_KEY)
_WRITE = Request(method="PUT", path="/cache/mode", key=OPERATOR_KEY, body={"mode": "normal"})  # As it is already.
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True, frozen=True, kw_only=True)
class _Answer:
    """`closes`: whether it says that it is the last one of its connection."""

    status: int
    closes: bool


async def _inject(world: World) -> None:
    for name, service in world.services.items():
        await _stop(service)
        await until_stopped(world, name)
        await asyncio.sleep(_AWAY_SECONDS)
        await asyncio.to_thread(service.start)


async def _stop(service: Service) -> None:
    """Tell a process to stop, and look at what it answers until it does."""
    async with AsyncExitStack() as stack:
        asking, spare, idle, busy = [await stack.enter_async_context(connected(service.port)) for _ in range(4)]
        for streams, request in ((asking, _READY), (spare, _READY), (idle, _READ), (busy, _READ)):
            await _demand(streams, request.encode(), status=200, closes=False)
        head, _, body = _WRITE.encode().partition(_END_OF_HEAD)
        busy[1].write(head + _END_OF_HEAD)
        service.terminate()
        await _until_stopping(asking, spare)
        await _demand(idle, _READ.encode(), status=200, closes=True)
        await _demand(busy, body, status=200, closes=True)


async def _until_stopping(streams: Streams, spare: Streams) -> None:
    """Ask for the readiness until the answer says no, and that it is the last one."""
    answer = await _ask(streams, _READY.encode())
    while answer == _Answer(status=200, closes=False):
        await asyncio.sleep(_POLL_SECONDS)
        answer = await _ask(streams, _READY.encode())
    if answer == _Answer(status=200, closes=True):  # It was under way when the stop began.
        answer = await _ask(spare, _READY.encode())
    elif answer == _Answer(status=503, closes=False):  # The port is not closed yet.
        answer = await _ask(streams, _READY.encode())
    if answer != _Answer(status=503, closes=True):
        message = f"a process that stops answers {_READY} with {answer}"
        raise ServerFailedError(message)


async def _demand(streams: Streams, data: bytes, *, status: int, closes: bool) -> None:
    answer, wanted = await _ask(streams, data), _Answer(status=status, closes=closes)
    if answer != wanted:
        message = f"{answer} instead of {wanted} to {data[:40]!r}"
        raise ServerFailedError(message)


async def _ask(streams: Streams, data: bytes) -> _Answer:
    """Send a request, or the rest of one, and read its answer."""
    reader, writer = streams
    writer.write(data)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = (await reader.readuntil(_END_OF_HEAD)).decode("latin-1").lower()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        message = f"no answer to {data[:40]!r}: {type(error).__name__}"
        raise ServerFailedError(message) from error
    return _Answer(status=int(head.split(" ", 2)[1]), closes=headers.get("connection") == "close")


SCENARIO = Scenario(
    hypothesis="No request fails: readiness says no, every answer says `Connection: close`, what runs is finished.",
    fault=f"SIGTERM to each process in turn; it starts again {_AWAY_SECONDS:g} s after its end",
    aborts_when="readiness says yes, an answer does not say `Connection: close`, a request that has begun is not"
    " answered, or a process ends with another status than 0",
    inject=_inject,
    expects=(seen_by_the_fault,),
)
