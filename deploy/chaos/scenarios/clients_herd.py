"""A herd of callers asks for one session in the moment when nothing of it is cached."""

import asyncio
from dataclasses import dataclass

from deploy.chaos.harness.expectations import seen_by_the_fault
from deploy.chaos.harness.hostile import demand
from deploy.chaos.harness.scenario import Scenario
from deploy.chaos.harness.steps import repeat
from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.http_client import HttpClient, Request
from tests.coherence.world import World
from tests.servers.processes import ServerFailedError

_CALLERS = 60
_SECONDS = 12.0
_PAUSE_SECONDS = 0.5
_LEAST_HERDS = 10  # 18 when this was written.
# Of all callers, the load's included, while a herd is under way: 3.1 when this was written, of which one for each
# process is the herd's; 10 with a single flight that let one caller in ten fly by itself.
_MOST_LOADS_A_HERD = 6
_LEAST_COALESCED_A_HERD = 30  # Half of the herd; 52 when this was written. Who comes late finds it cached.


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What all processes have counted of sessions: loads, and callers who waited for one under way."""

    loads: int = 0
    coalesced: int = 0


async def _inject(world: World) -> None:
    ports = [service.port for service in world.services.values()]
    clients = [HttpClient(ports[number % len(ports)]) for number in range(_CALLERS)]
    herds, seen = 0, _Seen()

    async def watch_stampede() -> None:
        nonlocal herds
        before = await asyncio.to_thread(_count, world)
        await _stampede(clients)
        after = await asyncio.to_thread(_count, world)
        herds += 1
        seen.loads += after.loads - before.loads
        seen.coalesced += after.coalesced - before.coalesced

    try:
        await repeat(_SECONDS, _PAUSE_SECONDS, watch_stampede)
    finally:
        for client in clients:
            client.close()
    demand(herds, _LEAST_HERDS, "herds came")
    demand(seen.coalesced, herds * _LEAST_COALESCED_A_HERD, f"of {herds} herds waited for the load of another")
    if seen.loads > herds * _MOST_LOADS_A_HERD:
        message = f"{seen.loads} loads for {herds} herds, {_MOST_LOADS_A_HERD} for each are the most"
        raise ServerFailedError(message)


async def _stampede(clients: list[HttpClient]) -> None:
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


def _count(world: World) -> _Seen:
    seen = _Seen()
    for service in world.services.values():
        metrics = service.metrics()
        seen.loads += int(metrics.total("zpmeow_loads_total", entity="session"))
        seen.coalesced += int(metrics.total("zpmeow_loads_coalesced_total", entity="session"))
    return seen


SCENARIO = Scenario(
    hypothesis="One query a process for the whole herd; the others wait for it, and nobody is refused.",
    fault=f"each {_PAUSE_SECONDS:g} s a session is dropped from all caches and asked for by {_CALLERS} callers at once,"
    f" for {_SECONDS:g} s",
    aborts_when="one of the herd is refused, or the herd does not wait for one load a process",
    inject=_inject,
    expects=(seen_by_the_fault,),
    disturbs_stores=False,
)
