"""Switches the protections of the cache off, one at a time: with any of them off the checker must find a violation.

Each saboteur patches the loaded code of a service process before it starts. What it takes away:

    version_check   entries are written whether or not newer ones stand there
    tombstone       a removal leaves no fence behind, only nothing
    floor           a process forgets what it knows to be outdated
    relay           the position moves on, and the changes behind it are not brought
    trust           the relay stands still some seconds after its start, and Redis is believed all the same
    feed            a process does not listen to what is changed, and takes itself to be informed

A relay that stands still is no sabotage by itself: it must only cost hits.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

from zpmeow.cache import redis_tier
from zpmeow.cache.coherence import Belief, Coherence, Verdict
from zpmeow.cache.floors import Floors
from zpmeow.domain.changes import Change
from zpmeow.repositories.cache_feed import CacheFeed
from zpmeow.repositories.change_keys import ChangeKeys
from zpmeow.repositories.invalidation_relay import InvalidationRelay

# The first line of the Lua code that compares an entry with what stands under its key; `key`, `new`, `replace` and the
# names of flags and outcomes are known there.
_BEFORE_COMPARING = b"local size = redis.pcall('STRLEN', key)"
_WRITE_AT_ONCE = b"if key then return replace(APPLIED) end\n"
_DELETE_FOR_FENCE = b"if string.byte(new, FLAGS) == FENCE then redis.call('DEL', key) return APPLIED end\n"

_RELAY_SECONDS = 3.0


def without_version_check() -> None:
    """Write every entry that is sent."""
    _insert_before_comparing(_WRITE_AT_ONCE)


def without_tombstone() -> None:
    """Delete the key where a fence would be left."""
    _insert_before_comparing(_DELETE_FOR_FENCE)


def without_floor() -> None:
    """Let every version pass as new enough."""
    setattr(Floors, "allows", lambda _self, _key, _version: True)  # noqa: B010  (mypy refuses the assignment)


def without_relay() -> None:
    """Move the position and apply nothing."""
    setattr(ChangeKeys, "fences", lambda _self, _changes, *, epoch: [])  # noqa: B010  (as above)


def with_still_relay() -> None:
    """Let the relay bring changes for some seconds, and then nothing any more."""
    rest = InvalidationRelay._rest
    began = time.monotonic()

    async def rest_for_ever_in_the_end(relay: InvalidationRelay) -> None:
        if time.monotonic() > began + _RELAY_SECONDS:
            await asyncio.Event().wait()
        await rest(relay)

    setattr(InvalidationRelay, "_rest", rest_for_ever_in_the_end)  # noqa: B010


def without_trust() -> None:
    """Believe Redis whenever the process knows an epoch, though nobody brings it the changes."""
    with_still_relay()
    setattr(Coherence, "judge", lambda _self, _data: Verdict(Belief.TRUSTED))  # noqa: B010


def without_feed() -> None:
    """Hear nothing of what others change; the relay alone goes on."""

    def changed(feed: CacheFeed, _changes: Sequence[Change]) -> None:
        feed._wake_relay()

    setattr(CacheFeed, "changed", changed)  # noqa: B010


def _insert_before_comparing(code: bytes) -> None:
    """Change every script that compares; at least one must."""
    found = False
    for name, script in list(vars(redis_tier).items()):
        if isinstance(script, redis_tier._Script) and _BEFORE_COMPARING in script.source:
            source = script.source.replace(_BEFORE_COMPARING, code + _BEFORE_COMPARING)
            sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
            setattr(redis_tier, name, redis_tier._Script(source, sha))
            found = True
    assert found, "no script compares versions where this saboteur looks for it"


SABOTEURS: Mapping[str, Callable[[], None]] = {
    "version_check": without_version_check,
    "tombstone": without_tombstone,
    "floor": without_floor,
    "relay": without_relay,
    "trust": without_trust,
    "feed": without_feed,
}

PATCHES: Mapping[str, Callable[[], None]] = {**SABOTEURS, "still_relay": with_still_relay}
