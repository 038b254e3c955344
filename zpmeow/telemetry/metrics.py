"""Events become numbers for Prometheus: which event adds to which number of the catalogue, and how they are told.

What only exists at one moment (pool, breaker, mode) comes with the `SystemState` of the scrape. Events are counted on
the event loop's thread; a scrape may run in another.
"""

import platform
from collections.abc import Iterable
from http import HTTPStatus
from itertools import product
from typing import Final, assert_never

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from zpmeow import __version__
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
from zpmeow.services.system_state import SystemState
from zpmeow.telemetry.catalogue import UNMATCHED_ROUTE, Catalogue
from zpmeow.telemetry.families import TextFormat, write_text
from zpmeow.telemetry.log_sink import LogSink
from zpmeow.telemetry.summary import Numbers, summarize
from zpmeow.telemetry.tallies import Timing

OTHER: Final = "other"
_MAX_HTTP_SERIES: Final = 1000  # Arbitrary, far above routes times statuses: a guard, should a path pass for a route.
_EXPECTED_STATUSES: Final = ("200", "500", "503")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HTTP_STATUSES: Final = frozenset(str(status.value) for status in HTTPStatus)


class Metrics:
    """Counts events, and tells the numbers as text for Prometheus or as a summary for people."""

    def __init__(self, *, log: LogSink | None = None) -> None:
        """Start at 0; `log` counts its lines itself."""
        self._catalogue = Catalogue(log)
        self._families = self._catalogue.families()
        self._process = _process_registry()

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Make the series of (method, route template) pairs that will be served, at 0.

        Of their successes and of what counts as failed: the first failure must be seen as a rise. With every status a
        scrape would take ten times as long.
        """
        for (method, route), status in product(routes, _EXPECTED_STATUSES):
            self._catalogue.requests.timings[method, route, status]

    def __call__(self, event: Event, /) -> None:  # noqa: C901, PLR0912  (one short case per kind of event)
        """Count the event; the frequent kinds come first."""
        numbers = self._catalogue
        match event:
            case CacheLookedUp():
                numbers.lookups.counts[event.entity, event.tier, event.outcome] += 1
            case CacheOperated():
                numbers.operations.timings[event.tier, event.operation].observe(event.duration_seconds)
            case RequestFinished():
                numbers.requests_in_flight -= 1
                self._request_timing(event).observe(event.duration_seconds - event.waited_seconds)
            case RequestStarted():
                numbers.requests_in_flight += 1
            case SessionRead():
                pass  # Counted as look-ups, or told by the state of the scrape.
            case QueryFinished():
                numbers.queries.timings[event.query,].observe(event.duration_seconds)
                if event.outcome != "ok":
                    numbers.query_failures.counts[event.outcome,] += 1
            case LoadFinished():
                numbers.loads.counts[event.entity, event.outcome] += event.count
            case LoadCoalesced():
                numbers.coalesced.counts[event.entity,] += 1
            case InvalidationSent():
                numbers.invalidations.counts[event.source, event.outcome] += event.count
            case ConsistencyChecked():
                numbers.checks.counts[event.entity, event.outcome] += 1
            case EpochBegun():
                numbers.epochs.counts[()] += 1
            case CircuitChanged():
                numbers.transitions.counts[event.previous, event.current] += 1
            case CommandDelivered() | CommandEnded() | PromisesEnded():
                self._count_engines(event)
            case LoopChecked():
                numbers.loop_delays.timings[()].observe(event.delay_seconds)
            case WaitBegun():
                numbers.requests_waiting += 1
            case WaitEnded():
                numbers.requests_waiting -= 1
            case RequestCrashed():
                numbers.crashes.counts["request",] += 1
            case BackgroundTaskCrashed():
                numbers.crashes.counts["background_task",] += 1
            case CorruptEntryFound() | CacheModeChanged() | DatabaseReachabilityChanged():
                pass  # As above.
            case FeedChanged() | LeadChanged() | TrustChanged() | EvictionPolicyFound():
                pass  # As above.
            case _:
                assert_never(event)

    def _count_engines(self, event: CommandDelivered | CommandEnded | PromisesEnded) -> None:
        numbers = self._catalogue
        match event:
            case CommandDelivered():
                numbers.commands.counts[event.action, "redelivered" if event.again else "delivered"] += 1
            case CommandEnded():
                numbers.commands.counts[event.action, event.outcome] += 1
            case PromisesEnded():
                numbers.silences.counts[()] += event.count

    def as_text(self, state: SystemState, accept: str) -> tuple[bytes, str]:
        """Return the exposition format that the `Accept` header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        is_open = content_type.startswith("application/openmetrics-text")
        own = write_text(self._families, state, TextFormat.OPEN_METRICS if is_open else TextFormat.CLASSIC)
        # The library's part comes last: it ends with the mark of its format.
        return own.encode() + encode(self._process), content_type

    def as_json(self, state: SystemState) -> dict[str, object]:
        """Return the same numbers for people: `data` of the contract's `GET /metrics`."""
        catalogue = self._catalogue
        numbers = Numbers(
            lookups=catalogue.lookups.counts,
            loads=catalogue.loads.counts,
            loads_coalesced=catalogue.coalesced.counts,
            invalidations=catalogue.invalidations.counts,
            consistency_checks=catalogue.checks.counts,
            breaker_transitions=catalogue.transitions.counts,
            queries_failed=catalogue.query_failures.counts,
            cache_get_buckets=catalogue.operations.timings.merged(having="get"),
            query_buckets=catalogue.queries.timings.merged(),
        )
        return summarize(state, numbers)

    def _request_timing(self, event: RequestFinished) -> Timing:
        timings = self._catalogue.requests.timings
        labels = (event.method, event.route, str(event.status))
        if labels in timings:
            return timings[labels]
        method = event.method if event.method in _METHODS else OTHER
        status = labels[2] if labels[2] in _HTTP_STATUSES else OTHER
        route = event.route if len(timings) < _MAX_HTTP_SERIES else UNMATCHED_ROUTE
        return timings[method, route, status]


def _process_registry() -> CollectorRegistry:
    """Return what the library knows of this process; nothing is registered in its global registry."""
    registry = CollectorRegistry()
    build = Info("zpmeow_build", "What runs here: compare instances after a roll-out.", registry=registry)
    build.info({"version": __version__, "python": platform.python_version()})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
