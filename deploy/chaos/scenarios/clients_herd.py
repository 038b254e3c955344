"""A herd of callers asks for one session in the moment when nothing of it is cached."""

import asyncio

from deploy.chaos.harness.expectations import counted, counted_at_most
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.http_client import HttpClient, Request
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CALLERS = 60
_SECONDS = 12.0
_PAUSE_SECONDS = 0.5
_MOST_LOADS = 400  # 50 of the herds, and those that changes make necessary; a load a caller would be 1,440.


async def _inject(world: World) -> None:
    ports = [service.port for service in world.services.values()]
    clients = [HttpClient(ports[number % len(ports)]) for number in range(_CALLERS)]

    async def stampede() -> None:
        # The oldest one is never deleted.
        oldest = Request(method="GET", path="/sessions/list?limit=1", key=OPERATOR_KEY)
        session_id = (await clients[0].ask(oldest)).data["sessions"][0]["id"]
        info = Request(method="GET", path=f"/sessions/{session_id}/info", key=OPERATOR_KEY)
        drop = Request(method="DELETE", path=f"/cache/sessions/{session_id}", key=OPERATOR_KEY)
        dropped = await clients[0].ask(drop)
        answers = [dropped, *await asyncio.gather(*(client.ask(info) for client in clients))]
        refused = [answer.status for answer in answers if answer.status != 200]
        if refused:
            message = f"{len(refused)} of {_CALLERS} were answered {set(refused)}"
            raise ServerFailedError(message)

    try:
        await repeat(_SECONDS, _PAUSE_SECONDS, stampede)
    finally:
        for client in clients:
            client.close()


SCENARIO = Scenario(
    hypothesis="One query a process for the whole herd; the others wait for it, and nobody is refused.",
    fault=f"each {_PAUSE_SECONDS:g} s a session is dropped from all caches and asked for by {_CALLERS} callers at once,"
    f" for {_SECONDS:g} s",
    aborts_when="one of the herd is refused",
    inject=_inject,
    expects=(counted("coalesced", 20), counted_at_most("loads", _MOST_LOADS)),
)
