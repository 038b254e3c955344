"""Every fact that someone outside may want to observe, as a small slotted class.

The code makes events and calls one `Observer`; `telemetry/` turns them into metrics and log lines.
No event holds a key, a JID, a QR code or a proxy password. Durations are seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class LookupOutcome(StrEnum):
    """How one look-up of one entry in one tier ended. Each look-up has exactly one outcome.

    The one exception: a key of a wrong Redis type reads as MISS and is found CORRUPT by the fill that
    follows, and counts as both.
    """

    HIT = "hit"
    MISS = "miss"
    STALE = "stale"
    CORRUPT = "corrupt"
    TIMEOUT = "timeout"
    ERROR = "error"
    BYPASS = "bypass"


class Tier(StrEnum):
    """Where a look-up was made: in this process, or in Redis."""

    LOCAL = "local"
    REDIS = "redis"


class LoadOutcome(StrEnum):
    """How a read that reached the database ended."""

    FOUND = "found"
    ABSENT = "absent"
    ERROR = "error"


@dataclass(slots=True)
class CacheLookedUp:
    """A tier was asked for one entry. `entity` is an Entity's value, or `name` or `key` for a hint."""

    entity: str
    tier: Tier
    outcome: LookupOutcome


@dataclass(slots=True)
class CacheOperated:
    """A tier finished an operation (get, put, delete, ping, info), well or not."""

    tier: str
    operation: str
    duration_seconds: float


@dataclass(slots=True)
class CorruptEntryFound:
    """An entry could not be trusted: it was discarded and loaded again. `key` is the cache key, without secrets."""

    key: str
    reason: str


@dataclass(slots=True)
class SessionRead:
    """A session was asked for: the records of `session` (its name, or its id) came from the cache or not."""

    session: str
    from_cache: bool


@dataclass(slots=True)
class CircuitChanged:
    """The breaker moved between closed, open and half_open, and why."""

    previous: str
    current: str
    reason: str


@dataclass(slots=True)
class CacheModeChanged:
    """An operator's choice (normal, bypass) reached this process."""

    mode: str


@dataclass(slots=True)
class LoadFinished:
    """The database was asked for so many entries."""

    entity: str
    outcome: LoadOutcome
    count: int = 1


@dataclass(slots=True)
class LoadCoalesced:
    """A caller found its load under way and waited for that one."""

    entity: str


@dataclass(slots=True)
class InvalidationSent:
    """Committed changes were taken over by the cache, or not.

    `source`: write (by the process that wrote), relay (from the change log), feed (in this process' memory), operator.
    `outcome`: applied, superseded, refused (a value that came too late), failed.
    """

    source: str
    outcome: str
    count: int = 1


@dataclass(slots=True)
class FeedChanged:
    """The change feed of this process was opened, or broke off (`reason`)."""

    live: bool
    reason: str | None = None


@dataclass(slots=True)
class LeadChanged:
    """This process began or ended to bring the change log to the cache."""

    leads: bool
    reason: str = ""


@dataclass(slots=True)
class EpochBegun:
    """Everything cached became void, and why."""

    reason: str


@dataclass(slots=True)
class TrustChanged:
    """Redis is believed from now on, or is not, and why (`reason`)."""

    reason: str | None


@dataclass(slots=True)
class EvictionPolicyFound:
    """Redis may evict the marks that keep old values out: `policy` is not one that is advised."""

    policy: str


@dataclass(slots=True)
class ConsistencyChecked:
    """A hit was compared with the database. `outcome`: match, stale, missing. Versions: the cache's, the database's.

    The cache has none when a hit was overtaken and what replaced it is not cached.
    """

    entity: str
    outcome: str
    key: str
    cached_version: int | None
    true_version: int | None


@dataclass(slots=True)
class PromisesEnded:
    """So many statuses were promised for a time that has passed without a new report, and this process recorded it."""

    count: int


@dataclass(slots=True)
class CommandDelivered:
    """An engine got a command, for the first time or `again`."""

    action: str
    again: bool


@dataclass(slots=True)
class CommandEnded:
    """An engine acknowledged a command. `outcome`: done, failed, withdrawn (nobody wanted it any more)."""

    action: str
    outcome: str


@dataclass(slots=True)
class QueryFinished:
    """The database finished a query, waiting for a connection included. `outcome`: ok, error, timeout, overloaded."""

    query: str
    outcome: str
    duration_seconds: float


@dataclass(slots=True)
class DatabaseReachabilityChanged:
    """The database came or went; `problem` says why, None when it came."""

    problem: str | None


@dataclass(slots=True)
class RequestStarted:
    """An HTTP request came in."""


@dataclass(slots=True)
class RequestFinished:
    """An HTTP request was answered. `route` is the template, never the path; `cache_status` as in the answer.

    `waited_seconds`: the part of its duration for which it waited because its caller had asked it to.
    """

    request_id: str
    method: str
    route: str
    status: int
    duration_seconds: float
    cache_status: str | None
    waited_seconds: float = 0.0


@dataclass(slots=True)
class WaitBegun:
    """A request begins to wait for news, because its caller asked it to."""


@dataclass(slots=True)
class WaitEnded:
    """It goes on."""


@dataclass(slots=True)
class LoopChecked:
    """A timer of the event loop came up so late."""

    delay_seconds: float


@dataclass(slots=True)
class RequestCrashed:
    """A handler raised what nobody expected: the caller got a 500."""

    request_id: str
    method: str
    route: str
    error: BaseException


@dataclass(slots=True)
class BackgroundTaskCrashed:
    """A task that should never end did; it is started again after a pause."""

    task: str
    error: BaseException


Event = (
    CacheLookedUp
    | CacheOperated
    | CorruptEntryFound
    | SessionRead
    | CircuitChanged
    | CacheModeChanged
    | LoadFinished
    | LoadCoalesced
    | InvalidationSent
    | FeedChanged
    | LeadChanged
    | EpochBegun
    | TrustChanged
    | EvictionPolicyFound
    | ConsistencyChecked
    | PromisesEnded
    | CommandDelivered
    | CommandEnded
    | QueryFinished
    | DatabaseReachabilityChanged
    | RequestStarted
    | RequestFinished
    | WaitBegun
    | WaitEnded
    | LoopChecked
    | RequestCrashed
    | BackgroundTaskCrashed
)


class Observer(Protocol):
    """Someone who wants to know. Called on the event loop: it must not wait, and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take note of the event."""
        ...


class Observers:
    """Several observers as one, called in order.

    A member that names kinds of events in `ignores` is not called for these: the frequent ones come some hundred
    thousand times a second.
    """

    def __init__(self, members: Sequence[Observer]) -> None:
        """Tell these."""
        self._members = members
        self._by_kind: dict[type, tuple[Observer, ...]] = {}

    def __call__(self, event: Event, /) -> None:
        """Pass the event on to each."""
        kind = type(event)
        members = self._by_kind.get(kind)
        if members is None:
            wanted = (member for member in self._members if kind not in getattr(member, "ignores", ()))
            members = self._by_kind[kind] = tuple(wanted)
        for member in members:
            member(event)


def ignore(_event: Event, /) -> None:
    """Observe nothing."""
