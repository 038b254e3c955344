"""Dashboards, rules and alerts with a real Prometheus that scrapes real services, under load and during faults."""

import asyncio
import contextlib
import math
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from deploy.grafana.generator.boards import BOARDS
from tests.acceptance.real.caller import ENGINE_KEY, Caller, Session
from tests.acceptance.real.conftest import MakeCaller, MakeService
from tests.servers.postgres_server import PostgresServer
from tests.servers.prometheus_server import PrometheusServer, find_prometheus
from tests.servers.redis_server import RedisServer
from tests.servers.service import Service

RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules"
EXPRESSIONS = {
    (board.name, panel["title"]): [
        re.sub(r"\$(?:job|instance)", ".+", target["expr"]).replace("$__rate_interval", "10s")
        for target in panel["targets"]
    ]
    for board in BOARDS
    for panel in orjson.loads(board.as_json())["panels"]
    if panel["type"] != "row"
}
"""What each panel asks, with the choices that Grafana fills in."""

NOT_PROVOKED = {
    "ZpmeowCrashes",
    "ZpmeowRestartsOften",
    "ZpmeowLogLinesLost",
    "ZpmeowEventLoopDelayed",
    "ZpmeowChangeFeedSilent",
    "ZpmeowHitRateCollapsed",  # Less than yesterday.
}
"""Alerts for what no fault here brings about; promtool has them fire."""

FAULTS_ALONE = {("http", "Failed by route")}
"""Panels that are empty in good times, so that no list of zeros hides what failed."""

READERS = 4
INTERVAL = "2s"
"""Of scrapes and rules: with the database away a scrape takes 0.9 s."""

SEEN_SECONDS = 30.0
"""Arbitrary: scrapes and rules come every two seconds, rates are over 10; a slow machine gets some more."""

FORGE = """
ALTER TABLE session_credential DISABLE TRIGGER ALL;
UPDATE session_credential SET version = version + 1000;
ALTER TABLE session_credential ENABLE TRIGGER ALL
"""


def some(value: float) -> bool:
    """Tell of something that happens."""
    return value > 0


def none(value: float) -> bool:
    """Tell of something that should hold and does not."""
    return value == 0


@pytest.fixture
def rules() -> dict[str, str]:
    """Our rules, which wait for nothing: how long each alert waits is tested by promtool."""
    texts = {file.name: file.read_text(encoding="utf-8") for file in RULES.iterdir()}
    patient = texts["alerts.yml"]
    at_once = re.sub(r"\bfor: \w+", "for: 0s", patient).replace(
        "(zpmeow_db_pool_waiting[2m])", "(zpmeow_db_pool_waiting[4s])"
    )
    assert at_once.count("for: 0s") > 10
    often = texts["recording.yml"].replace("interval: 1m", f"interval: {INTERVAL}")
    return {"alerts.yml": at_once, "recording.yml": often}


@pytest.fixture
def services(own_postgres: PostgresServer, own_redis: RedisServer, new_service: MakeService) -> list[Service]:
    """Two services, whose inspector draws from all reads; few connections, so that they run out."""
    return [
        new_service(
            DATABASE_URL=own_postgres.url,
            REDIS_URL=own_redis.url,
            CACHE_LOCAL_MAX_BYTES="8MiB",
            CACHE_LOCAL_TTL="1s",
            CACHE_INSPECT_ONE_IN="1",
            DB_POOL_SIZE="2",
            DB_TIMEOUT="2s",
        ).start()
        for _ in range(2)
    ]


@pytest.fixture
def prometheus(services: list[Service], rules: dict[str, str]) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes both."""
    program = find_prometheus()
    if program is None:
        pytest.skip("prometheus is missing (Debian: prometheus)")
    server = PrometheusServer(
        program=program, targets=[f"127.0.0.1:{one.port}" for one in services], rules=rules, interval=INTERVAL
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


class Operator:
    """Somebody who looks at the dashboards and hears of the alerts."""

    def __init__(self, prometheus: PrometheusServer) -> None:
        """Look at this Prometheus."""
        self._prometheus = prometheus
        self.heard: set[str] = set()
        """Alerts that fired since the start."""

    async def numbers(self, expression: str) -> list[float]:
        """Return what an expression shows now, without gaps."""
        found = await asyncio.to_thread(self._prometheus.query, expression)
        return [value for _labels, value in found if not math.isnan(value)]

    async def until(self, what: str, holds: Callable[[], Any]) -> None:
        """Look each half second until something holds."""
        for _ in range(int(2 * SEEN_SECONDS)):
            if await holds():
                return
            await asyncio.sleep(0.5)
        pytest.fail(f"not seen: {what}; heard: {sorted(self.heard)}")

    async def sees(self, board: str, title: str, holds: Callable[[float], bool], *, of: str = "") -> None:
        """Wait until a panel shows a number of this kind, of the metric that is named if it has several."""
        asked = [one for one in EXPRESSIONS[board, title] if of in one]
        assert asked

        async def shown() -> bool:
            numbers = [number for one in asked for number in await self.numbers(one)]
            return any(map(holds, numbers))

        await self.until(f"{board}: {title} ({holds.__name__})", shown)

    async def listen(self) -> None:
        """Note every alert that fires, for as long as it is not cancelled."""
        while True:
            self.heard |= await self.alerts()
            await asyncio.sleep(0.5)

    async def alerts(self) -> set[str]:
        """Return what fires now."""
        found = await asyncio.to_thread(self._prometheus.query, 'ALERTS{alertstate="firing"}')
        return {labels["alertname"] for labels, _value in found}

    async def hears(self, *alerts: str) -> None:
        """Wait until these alerts have fired."""

        async def heard() -> bool:
            return set(alerts) <= self.heard

        await self.until(str(alerts), heard)

    async def without_data(self, expressions: Sequence[str]) -> list[str]:
        """Return the expressions that show nothing at all."""
        return [one for one in expressions if not await self.numbers(one)]


@contextlib.asynccontextmanager
async def under_load(operator: Operator, callers: Sequence[Caller], sessions: Sequence[Session]) -> AsyncIterator[None]:
    """Have sessions read and reported about all the time, whatever becomes of the answers, and the operator listen."""
    chance = random.Random(7)

    async def read(caller: Caller) -> None:
        while True:
            session = chance.choice(sessions)
            path = f"/sessions/{session.id}"
            with contextlib.suppress(aiohttp.ClientError):
                for route in ("info", "status", "qr", "credentials"):
                    await caller.get(f"{path}/{route}", key=session.key)
                await caller.call("PUT", f"{path}/status", {"status": "connected"}, key=ENGINE_KEY)
                await caller.get("/no/such/route")
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(read(caller)) for caller in callers for _ in range(READERS)]
    tasks.append(asyncio.create_task(operator.listen()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def engines_misbehave(caller: Caller, postgres: PostgresServer, sessions: Sequence[Session]) -> None:
    """Take commands and forget them, and fall silent."""
    silent = await caller.create("silent")
    for session in (*sessions, silent):
        assert (await caller.call("POST", f"/sessions/{session.id}/connect")).status == 200
    for _ in range(2):
        assert (await caller.get("/engine/commands", key=ENGINE_KEY)).data["commands"]
        await asyncio.to_thread(postgres.execute, "UPDATE engine_commands SET leased_until = now() - interval '1 s'")
    report = {"status": "connected", "valid_for": 1}
    assert (await caller.call("PUT", f"/sessions/{silent.id}/status", report, key=ENGINE_KEY)).status == 200


async def corrupt(redis: RedisServer, sessions: Sequence[Session]) -> None:
    """Write rubbish where nothing true is written meanwhile: a status brings its session along."""
    for session in sessions:
        await asyncio.to_thread(redis.command, "SET", f"zpmeow:{{{session.id}}}:credential", "rubbish")


async def test_panels_show_and_alerts_tell_what_happens(  # noqa: PLR0915  (a story of faults, one after the other)
    own_postgres: PostgresServer,
    own_redis: RedisServer,
    services: list[Service],
    prometheus: PrometheusServer,
    new_caller: MakeCaller,
) -> None:
    """Every panel and rule has data in good times; in bad ones those that should tell of the fault do."""
    operator = Operator(prometheus)
    callers = [new_caller(service) for service in services]
    sessions = await callers[0].create_many(12)
    hardly_read = await callers[0].create_many(3, prefix="hardly-read")
    recorded = [rule["record"] for rule in rules_of("recording.yml")]
    shown = [one for panel, asked in EXPRESSIONS.items() if panel not in FAULTS_ALONE for one in asked]
    conditions = [as_number(rule["expr"]) for rule in rules_of("alerts.yml")]
    everything = [*shown, *recorded, *conditions]

    async with under_load(operator, callers, sessions):

        async def all_show() -> bool:
            return not await operator.without_data(everything)

        with contextlib.suppress(pytest.fail.Exception):
            await operator.until("data everywhere", all_show)
        assert await operator.without_data(everything) == []
        waiting = asyncio.create_task(callers[0].get("/engine/commands?wait=30", key=ENGINE_KEY))
        await operator.sees("engines", "Requests that wait for news", some)
        await operator.sees("http", "Refused by status", some)
        await operator.sees("cache", "Hits held against the database", some)
        quiet = await operator.alerts()
        waiting.cancel()

        await engines_misbehave(callers[0], own_postgres, sessions)
        await operator.sees("engines", "Promises broken", some)
        await operator.sees("engines", "Commands by outcome", some)
        await operator.hears("ZpmeowEnginesSilent", "ZpmeowCommandsComeBack")

        await corrupt(own_redis, sessions)
        await operator.sees("cache", "Corrupt entries", some)
        await operator.hears("ZpmeowCorruptEntries")

        await asyncio.to_thread(own_postgres.execute, FORGE)
        await operator.hears("ZpmeowStaleAnswer", "ZpmeowLogErrors")

        await callers[0].call("PUT", "/cache/mode", {"mode": "bypass"})
        await operator.sees("overview", "What is in order", none, of="zpmeow_cache_mode")
        await operator.hears("ZpmeowBypassLeftOn")
        await callers[0].call("PUT", "/cache/mode", {"mode": "normal"})

        # A panel shows them for a few seconds: whoever looks when all is over may come too late.
        timeouts = asyncio.create_task(operator.sees("cache", "Timeouts and errors", some))
        for _ in range(4):
            own_redis.pause()
            # Nobody has them in memory: if it were left to the load, writes alone might open the breakers.
            await asyncio.gather(*(callers[0].get(f"/sessions/{one.id}/info", key=one.key) for one in hardly_read))
            await operator.sees("overview", "Breaker", some)
            own_redis.resume()
            await operator.until("in use again", lambda: is_used(operator))
        await timeouts
        await operator.sees("cache", "Steps of the breaker", some)
        await operator.hears("ZpmeowBreakerOpen", "ZpmeowBreakerFlaps")

        own_redis.kill()
        await operator.sees("overview", "What is in order", none, of="zpmeow_cache_connected")
        await operator.sees("overview", "What is in order", none, of="zpmeow_cache_trusted")
        await operator.sees("overview", "Breaker", some)
        own_redis.start()
        await operator.until("in use again", lambda: is_used(operator))

        own_postgres.pause()
        await operator.sees("overview", "Failed requests", some)
        await operator.sees("http", "Failed by route", some)
        await operator.sees("database", "Queries that failed", some)
        await operator.sees("database", "Callers that wait for a connection", some)
        await operator.sees("database", "PostgreSQL answers", none)
        await operator.hears(
            *("ZpmeowDatabaseDown", "ZpmeowQueriesFail", "ZpmeowPoolSaturated"),
            *("ZpmeowCacheNotTrusted", "ZpmeowCoherenceLag", "ZpmeowNobodyLeads"),
        )
        own_postgres.kill()  # Refuses at once, so that much fails in little time.
        await operator.hears(
            *("ZpmeowErrorBudgetBurnsInHours", "ZpmeowErrorBudgetBurnsInDays"),
            *("ZpmeowErrorBudgetBurnsInTenDays", "ZpmeowErrorBudgetBurnsSlowly"),
        )
        own_postgres.start()

        services[1].kill()
        await operator.hears("ZpmeowDown")

    assert quiet <= {"ZpmeowEventLoopDelayed"}  # A slow machine's.
    assert {rule["alert"] for rule in rules_of("alerts.yml")} - operator.heard <= NOT_PROVOKED


async def is_used(operator: Operator) -> bool:
    """Tell whether every process answers from Redis."""
    closed, trusted = 'zpmeow_breaker_state{state="closed"}', "zpmeow_cache_trusted"
    return min([*await operator.numbers(closed), *await operator.numbers(trusted)]) == 1


def rules_of(name: str) -> list[dict[str, Any]]:
    """Return the rules of a file."""
    return [
        rule
        for group in yaml.safe_load((RULES / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def as_number(condition: str) -> str:
    """Have an alert's condition answer 0 where it does not hold, so that what it reads must be there (today)."""
    return re.sub(r" (==|<|>) ", r" \1 bool ", re.sub(r"\boffset \w+", "offset 2s", condition))
