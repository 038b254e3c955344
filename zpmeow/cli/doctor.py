"""`zpmeow doctor`: looks at everything the service stands on and says how to mend what is broken.

Changes nothing. Embedded servers run only inside `zpmeow serve`; what they do is asked of the service itself.
"""

import asyncio
import http.client
import json
import time
from contextlib import AsyncExitStack
from typing import Final

from zpmeow.cache.errors import CacheError
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cache.tier import ADVISED_POLICIES, TierInfo
from zpmeow.cli.coherence_check import examine_coherence
from zpmeow.cli.finding import Finding, Verdict
from zpmeow.domain.errors import Unavailable
from zpmeow.embedded import is_available
from zpmeow.events import ignore
from zpmeow.postgres.database import Database
from zpmeow.postgres.migrations import schema_problem
from zpmeow.settings import DEFAULT_DATABASE_URL, DEFAULT_REDIS_URL, Settings, without_credentials

_PATIENCE_SECONDS: Final = 3.0  # Longer than the service would wait: a slow server is to be told from a dead one.
_EMBEDDED: Final = "embedded: runs only while `zpmeow serve` does, see service"


async def examine(settings: Settings, *, deep: bool = False) -> list[Finding]:
    """Look at everything, side by side; takes some 10 s at most, raises nothing that is to be expected.

    `deep`: compare every entry in Redis with the database as well, which takes as long as it takes.
    """
    database, redis, service = await asyncio.gather(
        _examine_database(settings), _examine_redis(settings), asyncio.to_thread(_examine_service, settings)
    )
    found = [*_examine_settings(settings), *database, *redis, service]
    if not any(finding.is_broken for finding in (*database, *redis)):
        found += await _examine_both(settings, deep=deep)
    return found


async def _examine_both(settings: Settings, *, deep: bool) -> list[Finding]:
    """Look at what database and Redis say of each other; embedded ones run only while the service does."""
    database_url = settings.database.url or (None if is_available() else DEFAULT_DATABASE_URL)
    redis_url = settings.cache.url or (None if is_available() else DEFAULT_REDIS_URL)
    if not settings.cache.enabled:
        return []
    if database_url is None or redis_url is None:
        if not deep:
            return []
        text = "embedded servers cannot be compared from outside: set DATABASE_URL and REDIS_URL"
        return [Finding(part="deep", verdict=Verdict.BROKEN, text=text)]
    async with AsyncExitStack() as stack:
        database = await Database.open(url=database_url, pool_size=1, timeout_seconds=_PATIENCE_SECONDS)
        stack.push_async_callback(database.close)
        tier = RedisTier(url=redis_url, pool_size=1, timeout_seconds=_PATIENCE_SECONDS, observer=ignore)
        stack.push_async_callback(tier.close)
        return [finding async for finding in examine_coherence(database, tier, deep=deep)]


def _examine_settings(settings: Settings) -> list[Finding]:
    warnings = [
        Finding(part="settings", verdict=Verdict.WARNING, text=warning, remedy="see the settings in README")
        for warning in settings.warnings()
    ]
    return warnings or [Finding(part="settings", verdict=Verdict.OK, text="all variables are valid")]


async def _examine_database(settings: Settings) -> list[Finding]:
    url = settings.database.url
    if url is None and is_available():
        return [Finding(part="database", verdict=Verdict.OK, text=_EMBEDDED)]
    url = url or DEFAULT_DATABASE_URL
    place = without_credentials(url)
    database = await Database.open(url=url, pool_size=1, timeout_seconds=_PATIENCE_SECONDS)
    try:
        row = await database.fetch_row("doctor", "SELECT current_setting('server_version') AS version")
        version = "?" if row is None else row["version"]
        found = Finding(part="database", verdict=Verdict.OK, text=f"PostgreSQL {version} at {place}")
        return [found, await _examine_schema(database)]
    except Unavailable as error:
        remedy = "start PostgreSQL, or correct DATABASE_URL (or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME)"
        return [Finding(part="database", verdict=Verdict.BROKEN, text=f"{place}: {error}", remedy=remedy)]
    finally:
        await database.close()


async def _examine_schema(database: Database) -> Finding:
    problem = await schema_problem(database)
    if problem is None:
        return Finding(part="schema", verdict=Verdict.OK, text="newest")
    return Finding(part="schema", verdict=Verdict.BROKEN, text=problem)


async def _examine_redis(settings: Settings) -> list[Finding]:
    if not settings.cache.enabled:
        return [Finding(part="redis", verdict=Verdict.OK, text="not used: CACHE_ENABLED is false")]
    url = settings.cache.url
    if url is None and is_available():
        return [Finding(part="redis", verdict=Verdict.OK, text=_EMBEDDED)]
    url = url or DEFAULT_REDIS_URL
    place = without_credentials(url)
    remedy = "start Redis, or correct REDIS_URL (or REDIS_HOST, REDIS_PORT, REDIS_PASSWORD, REDIS_DB)"
    try:
        tier = RedisTier(url=url, pool_size=1, timeout_seconds=_PATIENCE_SECONDS, observer=ignore)
    except ValueError as error:
        return [Finding(part="redis", verdict=Verdict.BROKEN, text=f"{place}: {error}", remedy=remedy)]
    try:
        await tier.probe()  # Connects; the next call is what users wait for.
        began_at = time.monotonic()
        info = await tier.describe()
        duration_seconds = time.monotonic() - began_at
    except CacheError as error:
        text = f"{place}: {error or type(error).__name__}; the service works without it, slower"
        return [Finding(part="redis", verdict=Verdict.BROKEN, text=text, remedy=remedy)]
    finally:
        await tier.close()
    return judge_redis(settings, place, info, duration_seconds)


def judge_redis(settings: Settings, place: str, info: TierInfo, duration_seconds: float) -> list[Finding]:
    """Say how a Redis that answers is: as advised or not."""
    text = f"{info.version} at {place}, {info.total_keys} keys, answers in {duration_seconds * 1000:.1f} ms"
    findings = [Finding(part="redis", verdict=Verdict.OK, text=text)]
    if duration_seconds > settings.cache.timeout_seconds:
        slow = f"slower than CACHE_TIMEOUT ({settings.cache.timeout_seconds * 1000:g} ms): it would hardly be used"
        remedy = "use a Redis that is nearer, or raise CACHE_TIMEOUT"
        findings.append(Finding(part="redis", verdict=Verdict.WARNING, text=slow, remedy=remedy))
    if info.maxmemory_policy is not None and info.maxmemory_policy not in ADVISED_POLICIES:
        evicts = f"maxmemory-policy is {info.maxmemory_policy}: it may evict the marks that keep old values out"
        remedy = "set maxmemory-policy to volatile-ttl"
        findings.append(Finding(part="redis", verdict=Verdict.WARNING, text=evicts, remedy=remedy))
    return findings


def _examine_service(settings: Settings) -> Finding:
    host, port = settings.server.host, settings.server.port
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    # An address that means "all of mine" is reached by the loopback one.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (nothing is bound here)
    connection = http.client.HTTPConnection(reachable, port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", "/health")
        status = json.loads(connection.getresponse().read())["data"]["status"]
    except (OSError, http.client.HTTPException):
        return Finding(part="service", verdict=Verdict.OK, text=f"not running on {shown}")
    except (ValueError, LookupError, TypeError):
        text, remedy = f"{shown} answers, but is not zpmeow", "set SERVER_PORT to a free port"
        return Finding(part="service", verdict=Verdict.BROKEN, text=text, remedy=remedy)
    finally:
        connection.close()
    if status == "ok":
        return Finding(part="service", verdict=Verdict.OK, text=f"running on {shown}, healthy")
    verdict = Verdict.WARNING if status == "degraded" else Verdict.BROKEN
    remedy = f"read {shown}/health and the log"
    return Finding(part="service", verdict=verdict, text=f"running on {shown}, {status}", remedy=remedy)
