"""The part of `zpmeow doctor` that needs database and Redis together: the position, and with --deep every entry."""

import time
from collections.abc import AsyncIterator

from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.errors import CacheError
from zpmeow.cache.position import decode_position
from zpmeow.cache.redis_tier import RedisTier
from zpmeow.cli.finding import Finding, Verdict
from zpmeow.domain.errors import Unavailable
from zpmeow.postgres import statements
from zpmeow.postgres.change_log import database_identity
from zpmeow.postgres.database import Database
from zpmeow.postgres.session_repository import PostgresSessionRepository
from zpmeow.repositories.cache_policies import CacheLifetimes, CachePolicies
from zpmeow.repositories.deep_check import DeepCheck

MAX_DIFFERENCES = 100
_OLD_SECONDS = 20.0  # From then on, or a little later with a long DB_TIMEOUT, readers do not believe it.
_STILL_SECONDS = 3.0  # A relay that runs renews it twice a second: what came after an older one is not applied yet.
_PART = "coherence"
_RESTART = "is a service running with CACHE_ENABLED=true, and does its log say that it brings the change log to Redis?"


async def examine_coherence(database: Database, tier: RedisTier, *, deep: bool) -> AsyncIterator[Finding]:
    """Say how Redis' position fits the database; with `deep`, compare every entry. Raises nothing to be expected."""
    try:
        row = await database.fetch_row("doctor", statements.LOG_STATE)
        stored = await tier.read_position()
    except (Unavailable, CacheError) as error:
        yield Finding(part=_PART, verdict=Verdict.BROKEN, text=f"not to be told: {error}")
        return
    if row is None:
        yield Finding(part=_PART, verdict=Verdict.BROKEN, text="control_settings or change_log is empty")
        return
    position = None if stored is None else decode_position(stored)
    if position is None:
        text = "Redis has no position: nothing in it is believed"
        yield Finding(part=_PART, verdict=Verdict.WARNING, text=text, remedy=_RESTART)
        return
    if (position.epoch, position.database) != (row["epoch"], database_identity(row)):
        text = "Redis' position is of another epoch or database: nothing in it is believed"
        yield Finding(part=_PART, verdict=Verdict.WARNING, text=text, remedy=_RESTART)
        return
    age_seconds = row["read_at"].timestamp() - position.at_ms / 1000
    verdict = Verdict.OK if age_seconds < _OLD_SECONDS else Verdict.WARNING
    text = f"Redis has seen every change up to {age_seconds:.1f} s ago"
    yield Finding(part=_PART, verdict=verdict, text=text, remedy=None if verdict is Verdict.OK else _RESTART)
    if deep:
        async for finding in _compare(database, tier, row["epoch"], is_still=age_seconds > _STILL_SECONDS):
            yield finding


async def _compare(database: Database, tier: RedisTier, epoch: bytes, *, is_still: bool) -> AsyncIterator[Finding]:
    """Tell what differs: broken, unless nobody brings the changes now, so that nobody believes what lacks them."""
    verdict = Verdict.WARNING if is_still else Verdict.BROKEN

    def now_ms() -> int:
        return int(time.time() * 1000)

    check = DeepCheck(
        tier=tier,
        find_many=PostgresSessionRepository(database=database).find_many,
        policies=CachePolicies(_ANY_LIFETIMES),
        codec=EntryCodec(now_ms=now_ms),
        now_ms=now_ms,
        epoch=epoch,
    )
    told = 0
    try:
        async for difference in check.differences():
            told += 1
            if told <= MAX_DIFFERENCES:
                yield Finding(part="deep", verdict=verdict, text=str(difference))
    except (Unavailable, CacheError) as error:
        yield Finding(part="deep", verdict=Verdict.BROKEN, text=f"broken off: {error}")
        return
    counts = check.counts
    text = (
        f"{counts.keys} keys: {counts.equal} equal the database, {told} differ, {counts.void} void,"
        f" {counts.other} not readable"
    )
    if not told:
        yield Finding(part="deep", verdict=Verdict.OK, text=text)
    elif is_still:
        text += ", and no service brings changes to Redis now"
        yield Finding(part="deep", verdict=verdict, text=text, remedy="start the service and look again")
    else:
        remedy = "PUT /cache/mode bypass keeps them from being answered; keep the output for a report"
        yield Finding(part="deep", verdict=verdict, text=text, remedy=remedy)


# What is stored says itself how long it holds; these are for what is written, and nothing is written here.
_ANY_LIFETIMES = CacheLifetimes(
    session_seconds=1, status_seconds=1, qr_seconds=1, credential_seconds=1, stale_if_error=True
)
