"""Events become log lines: one for each change of state and each request, none for a failed cache call.

What happens often is counted in `metrics`; a line here is something that a person reads.
"""

from typing import Final, assert_never

from zpmeow.events import (
    BackgroundTaskCrashed,
    CacheLookedUp,
    CacheModeChanged,
    CacheOperated,
    CircuitChanged,
    CommandDelivered,
    CommandEnded,
    ConsistencyChecked,
    CorruptEntryFound,
    DatabaseReachabilityChanged,
    EpochBegun,
    Event,
    EvictionPolicyFound,
    FeedChanged,
    InvalidationSent,
    LeadChanged,
    LoadCoalesced,
    LoadFinished,
    LoopChecked,
    PromisesEnded,
    QueryFinished,
    RequestCrashed,
    RequestFinished,
    RequestStarted,
    SessionRead,
    TrustChanged,
    WaitBegun,
    WaitEnded,
)
from zpmeow.telemetry.logs import Logs

_MAX_REMEMBERED_KEYS: Final = 10_000  # Some 2 MB; a key that is found corrupt after so many others is told again.


class LogObserver:
    """Writes the lines. Costs next to nothing for events that have no line."""

    ignores = frozenset(
        {CacheLookedUp, CacheOperated, RequestStarted, QueryFinished, LoadFinished, LoadCoalesced}
        | {WaitBegun, WaitEnded, LoopChecked}
    )

    def __init__(self, *, logs: Logs, tells_requests: bool = True) -> None:
        """Write to these logs; `tells_requests`: each HTTP request is a line."""
        self._logs = logs
        self._tells_requests = tells_requests
        self._repository = logs.logger("cached-repo")
        self._cache = logs.logger("cache")
        self._breaker = logs.logger("cache-breaker")
        self._coherence = logs.logger("coherence")
        self._engines = logs.logger("engines")
        self._database = logs.logger("database")
        self._http = logs.logger("http")
        self._background = logs.logger("background")
        self._corrupt_keys: dict[str, None] = {}

    def __call__(self, event: Event, /) -> None:  # noqa: C901, PLR0912  (one short case per kind of event)
        """Write the event's line, if it has one; the frequent kinds come first."""
        match event:
            case CacheLookedUp() | CacheOperated() | RequestStarted():
                pass  # As in `ignores`.
            case SessionRead():
                if self._logs.tells_debug:
                    self._tell_read(event)
            case RequestFinished():
                if self._tells_requests:
                    self._tell_request(event)
            case QueryFinished() | LoadFinished() | LoadCoalesced():
                pass  # As in `ignores`.
            case WaitBegun() | WaitEnded() | LoopChecked():
                pass  # As in `ignores`.
            case InvalidationSent():
                pass
            case CommandDelivered() | CommandEnded():
                pass
            case CorruptEntryFound():
                self._tell_corrupt_entry(event)
            case CircuitChanged():
                self._tell_circuit(event)
            case CacheModeChanged():
                self._tell_mode(event)
            case FeedChanged() | LeadChanged() | EpochBegun() | TrustChanged() | ConsistencyChecked():
                self._tell_coherence(event)
            case EvictionPolicyFound():
                self._cache.warning(
                    "Redis' maxmemory-policy is %s, which may evict what keeps old values out; set volatile-ttl",
                    event.policy,
                )
            case PromisesEnded():
                self._engines.warning(
                    "engine_silent: the promises of %d sessions ended without a new report", event.count
                )
            case DatabaseReachabilityChanged():
                self._tell_database(event)
            case RequestCrashed():
                self._tell_crashed_request(event)
            case BackgroundTaskCrashed():
                self._background.error("Background task %s crashed", event.task, exc_info=event.error)
            case _:
                assert_never(event)

    def _tell_read(self, event: SessionRead) -> None:
        if event.from_cache:
            self._repository.debug("Cache HIT for session %s", event.session)
        else:
            self._repository.debug("Cache MISS for session %s, fetching from database", event.session)

    def _tell_request(self, event: RequestFinished) -> None:
        self._http.info(
            "%s %s %d",
            event.method,
            event.route,
            event.status,
            request_id=event.request_id,
            method=event.method,
            route=event.route,
            status=event.status,
            duration_ms=round(event.duration_seconds * 1000, 3),
            waited_ms=round(event.waited_seconds * 1000, 3),
            cache_status=event.cache_status,
        )

    def _tell_corrupt_entry(self, event: CorruptEntryFound) -> None:
        if event.key in self._corrupt_keys:
            return
        if len(self._corrupt_keys) >= _MAX_REMEMBERED_KEYS:
            del self._corrupt_keys[next(iter(self._corrupt_keys))]
        self._corrupt_keys[event.key] = None
        self._cache.warning("Corrupt cache entry discarded", key=event.key, reason=event.reason)

    def _tell_circuit(self, event: CircuitChanged) -> None:
        tell = self._breaker.warning if event.current == "open" else self._breaker.info
        tell("Cache breaker is %s, was %s: %s", event.current, event.previous, event.reason)

    def _tell_mode(self, event: CacheModeChanged) -> None:
        self._cache.info("Cache mode is %s", event.mode)

    def _tell_coherence(
        self, event: FeedChanged | LeadChanged | EpochBegun | TrustChanged | ConsistencyChecked
    ) -> None:
        logger = self._coherence
        match event:
            case FeedChanged(live=True):
                logger.info("Change feed is open")
            case FeedChanged(reason=reason):
                logger.warning("Change feed broke off: %s; the database answers until it is open again", reason)
            case LeadChanged(leads=True):
                logger.info("This process brings the change log to Redis")
            case LeadChanged(reason=reason):
                logger.info("This process does not bring the change log to Redis: %s", reason)
            case EpochBegun(reason=reason):
                logger.warning("Everything cached is void from now on: %s", reason)
            case TrustChanged(reason=None):
                logger.info("Redis is believed")
            case TrustChanged(reason=reason):
                logger.info("Redis is not believed: %s", reason)
            case ConsistencyChecked(outcome="match"):
                pass
            case ConsistencyChecked():
                logger.error(
                    "An old answer was given from the cache",
                    outcome=event.outcome,
                    key=event.key,
                    cached_version=event.cached_version,
                    true_version=event.true_version,
                )
            case _:
                assert_never(event)

    def _tell_database(self, event: DatabaseReachabilityChanged) -> None:
        if event.problem is None:
            self._database.info("Database answers")
        else:
            self._database.error("Database does not answer: %s", event.problem)

    def _tell_crashed_request(self, event: RequestCrashed) -> None:
        self._http.error("%s %s crashed", event.method, event.route, request_id=event.request_id, exc_info=event.error)
