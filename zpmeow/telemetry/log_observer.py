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
    CorruptEntryFound,
    DatabaseReachabilityChanged,
    Event,
    InvalidationSent,
    LoadCoalesced,
    LoadFinished,
    QueryFinished,
    RequestCrashed,
    RequestFinished,
    RequestStarted,
    SessionRead,
)
from zpmeow.telemetry.logs import Logs

_MAX_REMEMBERED_KEYS: Final = 10_000  # Some 2 MB; a key that is found corrupt after so many others is told again.


class LogObserver:
    """Writes the lines. Costs next to nothing for events that have no line."""

    def __init__(self, *, logs: Logs, tells_requests: bool = True) -> None:
        """Write to these logs; `tells_requests`: each HTTP request is a line."""
        self._tells_reads = logs.tells_debug
        self._tells_requests = tells_requests
        self._repository = logs.logger("cached-repo")
        self._cache = logs.logger("cache")
        self._breaker = logs.logger("cache-breaker")
        self._database = logs.logger("database")
        self._http = logs.logger("http")
        self._background = logs.logger("background")
        self._corrupt_keys: dict[str, None] = {}

    def __call__(self, event: Event, /) -> None:  # noqa: C901, PLR0912  (one short case per kind of event)
        """Write the event's line, if it has one; the frequent kinds come first."""
        match event:
            case CacheLookedUp() | CacheOperated() | RequestStarted():
                pass
            case SessionRead():
                if self._tells_reads:
                    self._tell_read(event)
            case RequestFinished():
                if self._tells_requests:
                    self._tell_request(event)
            case QueryFinished() | LoadFinished() | LoadCoalesced() | InvalidationSent():
                pass
            case CorruptEntryFound():
                self._tell_corrupt_entry(event)
            case CircuitChanged():
                self._tell_circuit(event)
            case CacheModeChanged():
                self._tell_mode(event)
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

    def _tell_database(self, event: DatabaseReachabilityChanged) -> None:
        if event.problem is None:
            self._database.info("Database answers")
        else:
            self._database.error("Database does not answer: %s", event.problem)

    def _tell_crashed_request(self, event: RequestCrashed) -> None:
        self._http.error("%s %s crashed", event.method, event.route, request_id=event.request_id, exc_info=event.error)
