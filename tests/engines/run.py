"""One run: engines, users and faults for a while, then quiet; then every wish must have come true."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import asyncpg

from tests.engines import verdict
from tests.engines.users import Users, Wish
from tests.engines.world import OPERATOR_KEY, World
from tests.servers.postgres_server import PostgresInstallation
from zpmeow.client import Client

QUIET_SECONDS = 60.0
_OPEN_COMMANDS = "SELECT count(*) FROM engine_commands WHERE outcome IS NULL AND expires_at > now()"
_DELIVERIES = "SELECT count(*) AS commands, coalesce(sum(deliveries), 0) AS deliveries FROM engine_commands"


@dataclass(slots=True, frozen=True, kw_only=True)
class Plan:
    """What a run does. `faults_every`: seconds between two faults on the average."""

    seed: int
    seconds: float
    sessions: int = 200
    wishes_per_second: float = 8.0
    reads_per_second: float = 60.0
    faults_every: float = 5.0
    valid_for: int = 9


@dataclass(slots=True, kw_only=True)
class Report:
    """What came of it. `problems`: each one is a broken promise."""

    plan: Plan
    wishes: int = 0
    reads: int = 0
    codes: int = 0
    commands: int = 0
    deliveries: int = 0
    begun_again: int = 0
    settled_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Write it down."""
        rows = {
            "seed": self.plan.seed,
            "sessions, seconds": f"{self.plan.sessions}, {self.plan.seconds:g}",
            "wishes, status reads, codes seen by who waited": f"{self.wishes}, {self.reads}, {self.codes}",
            "faults": ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())),
            "commands, deliveries": f"{self.commands}, {self.deliveries}",
            "commands begun anew": self.begun_again,
            "all wishes true after": f"{self.settled_seconds:.1f} s of quiet",
            "problems": len(self.problems),
        }
        lines = [f"| {name} | {value} |" for name, value in rows.items()]
        return "\n".join(["| engines | |", "| --- | --- |", *lines, *(f"- {problem}" for problem in self.problems), ""])


async def run(plan: Plan, installation: PostgresInstallation) -> Report:
    """Run by the plan."""
    chance = Random(plan.seed)
    report = Report(plan=plan)
    async with (
        World(installation=installation, chance=chance, valid_for=plan.valid_for) as world,
        Client(world.url, api_key=OPERATOR_KEY, patience_seconds=30) as client,
    ):
        users = Users(client=client, chance=chance, sessions=plan.sessions)
        await users.create_all()
        readers = [
            asyncio.create_task(users.read_for_ever(per_second=plan.reads_per_second)),
            *(asyncio.create_task(users.wait_for_codes_for_ever()) for _ in range(5)),
        ]
        await _trouble(plan, world, users, chance)
        report.problems += await _settle(users, world, report)
        for task in readers:
            task.cancel()
        await asyncio.wait(readers)
        report.problems += await _judge(world, users, report)
        report.faults = Counter(kind for kind, _, _ in world.faults)
        missing = [kind for kind in world.kinds() if not report.faults[kind]]
        report.problems += [f"there was no fault of the kind: {kind}" for kind in missing]
        report.problems += [
            f"a process crashed: {line}"
            for process in (*world.engines,)
            for line in process.output().splitlines()
            if "Traceback" in line
        ]
        for service in world.services:
            report.problems += [
                f"{line['message']}: {line.get('exception', '')}"
                for line in service.lines
                if line["level"] == "error" and "crash" in line["message"]
            ]
    return report


async def _trouble(plan: Plan, world: World, users: Users, chance: Random) -> None:
    """Let users wish and faults happen, all kinds in turn in a random order, until the time is over."""
    wishing = asyncio.create_task(users.wish_for_ever(per_second=plan.wishes_per_second))
    ends_at = time.monotonic() + plan.seconds
    faults: set[asyncio.Task[None]] = set()
    kinds: list[str] = []
    while time.monotonic() < ends_at:
        if not kinds:
            kinds = chance.sample(list(world.kinds()), len(world.kinds()))
        faults.add(asyncio.create_task(world.break_one(kinds.pop())))
        await asyncio.sleep(chance.uniform(0.5, 1.5) * plan.faults_every)
        if wishing.done():
            wishing.result()
    await asyncio.gather(*faults)
    wishing.cancel()
    await asyncio.wait([wishing])
    # Of what was being wished when the wishing ended nobody knows whether it was heard. All else must come true as is.
    await asyncio.gather(*(users.confirm(owned) for owned in list(users.unsure)))


async def _settle(users: Users, world: World, report: Report) -> list[str]:
    """Wait until every wish has come true and no command is open."""
    began = time.monotonic()
    database = await asyncpg.connect(world.database_url)
    try:
        while True:
            wrong = await users.unfulfilled()
            still_open = await database.fetchval(_OPEN_COMMANDS)
            report.settled_seconds = time.monotonic() - began
            if not wrong and not still_open:
                return []
            if report.settled_seconds > QUIET_SECONDS:
                return [*wrong, *([f"{still_open} commands are still open"] if still_open else [])]
            await asyncio.sleep(0.5)
    finally:
        await database.close()


async def _holders(world: World, users: Users, patience_seconds: float) -> list[str]:
    """Return who holds what wrongly, once every engine has had the time for a report, by which it learns."""
    connected = [owned.id for owned in users.sessions if owned.wish is Wish.CONNECTED and owned.id is not None]
    ends_at = time.monotonic() + patience_seconds
    while True:
        asked_at = time.time()
        for engine in world.engines:
            engine.send(signal.SIGUSR2)
        await asyncio.sleep(1)
        lines = [line for line in world.traces() if line["what"] == "holds" and line["at"] >= asked_at]
        holds = {line["pid"]: [UUID(session) for session in line["sessions"]] for line in lines}
        missing = [f"{engine!r} does not answer" for engine in world.engines if engine.pid not in holds]
        wrong = missing or verdict.held_wrongly(list(holds.values()), connected)
        if not wrong or time.monotonic() > ends_at:
            return wrong


async def _judge(world: World, users: Users, report: Report) -> list[str]:
    wrong = await _holders(world, users, report.plan.valid_for + 5)
    traces = world.traces()
    database = await asyncpg.connect(world.database_url)
    try:
        counts = await database.fetchrow(_DELIVERIES)
    finally:
        await database.close()
    assert counts is not None
    report.commands, report.deliveries = counts["commands"], counts["deliveries"]
    report.wishes, report.reads, report.codes = users.wishes, len(users.seen), users.codes
    report.begun_again, needless = verdict.done_twice(traces)
    return [*wrong, *needless, *verdict.wrong_answers(traces, users.seen)]
