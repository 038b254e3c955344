"""Events become numbers for Prometheus: every metric name of the service stands here, and nowhere else.

Series exist from the start, at 0, so that a first increment is not lost to `rate()`. Events are counted
in `tallies`; a scrape makes prometheus_client's families of them, through the registry. What only exists
at one moment (pool, breaker, mode) comes with the `SystemState` of the scrape. Labels are bounded: methods
and statuses by HTTP, routes by their templates and a limit, all else by the code. Events are counted on
the event loop's thread; a scrape takes some 10 ms and may run in another.
"""

import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import permutations, product
from typing import Final, assert_never

from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from zpmeow import __version__
from zpmeow.domain.commands import CommandAction
from zpmeow.domain.records import Entity
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
    LoadOutcome,
    LookupOutcome,
    PromisesEnded,
    QueryFinished,
    RequestCrashed,
    RequestFinished,
    RequestStarted,
    SessionRead,
    Tier,
    TrustChanged,
)
from zpmeow.services.system_state import SystemState
from zpmeow.telemetry.summary import Numbers, hit_ratio, summarize
from zpmeow.telemetry.tallies import BOUNDS_SECONDS, Counts, Labels, Timing, Timings

UNMATCHED_ROUTE: Final = "unmatched"
OTHER: Final = "other"
_MAX_HTTP_SERIES: Final = 1000  # Arbitrary, far above routes times statuses: a guard, should a path pass for a route.

_LOOKED_UP: Final = (*(entity.value for entity in Entity), "name", "key")
_TIERS: Final = tuple(tier.value for tier in Tier)
_OPERATIONS: Final = ("get", "put", "delete", "ping", "info", "apply")
_SOURCES: Final = ("write", "relay", "feed", "operator")
_SENT: Final = ("applied", "superseded", "refused", "failed")
_CHECKED: Final = ("match", "stale", "missing")
_COMMAND_OUTCOMES: Final = ("delivered", "redelivered", "done", "failed", "withdrawn")
_CIRCUIT_STATES: Final = ("closed", "open", "half_open")
_MODES: Final = ("normal", "bypass")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_QUERIES: Final = (
    *("find", "find_many", "list", "recent", "create", "update", "delete", "change_status"),
    *("put_qr", "put_pairing_code", "put_credential", "remove_credential"),
    *("control_read", "control_set_mode", "control_restore", "prune_changes", "ping", "schema_check"),
    *("record_silence", "take_commands", "end_command", "release_commands", "prune_commands"),
)
_BOUND_TEXTS: Final = {bound: str(bound) for bound in BOUNDS_SECONDS} | {math.inf: "+Inf"}
_HTTP_STATUSES: Final = frozenset(str(status.value) for status in HTTPStatus)


def make_registry() -> CollectorRegistry:
    """Return an empty registry: nothing is registered in the library's global one."""
    return CollectorRegistry()


class Metrics(Collector):
    """Counts events, and tells the numbers as text for Prometheus or as a summary for people."""

    def __init__(self, *, registry: CollectorRegistry) -> None:
        """Add every metric to the registry."""
        self._registry = registry
        self._state: SystemState | None = None
        self._counters: list[tuple[str, str, Labels, Counts]] = []
        self._histograms: list[tuple[str, str, Labels, Timings]] = []
        self._requests_in_flight = 0
        self._make_cache_metrics()
        self._make_load_metrics()
        self._make_engine_metrics()
        self._make_database_metrics()
        self._make_http_metrics()
        registry.register(self)
        build = Info("zpmeow_build", "What runs here: compare instances after a roll-out.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def _make_cache_metrics(self) -> None:
        self._lookups = self._counter(
            "zpmeow_cache_lookups_total",
            "Look-ups of entries. Rising timeout or error: look at Redis; corrupt: who else writes there?",
            ("entity", "tier", "outcome"),
            product(_LOOKED_UP, _TIERS, (outcome.value for outcome in LookupOutcome)),
        )
        self._operations = self._histogram(
            "zpmeow_cache_operation_duration_seconds",
            "Time of one call to a tier, failed ones included. Near CACHE_TIMEOUT: Redis is slow or far away.",
            ("tier", "operation"),
            product((Tier.REDIS.value,), _OPERATIONS),
        )
        self._transitions = self._counter(
            "zpmeow_breaker_transitions_total",
            "Steps of the breaker. Many: Redis comes and goes; look at its host and the network.",
            ("from", "to"),
            permutations(_CIRCUIT_STATES, 2),
        )

    def _make_load_metrics(self) -> None:
        self._loads = self._counter(
            "zpmeow_loads_total",
            "Reads that reached the database: compare with the look-ups to see what the cache saves.",
            ("entity", "outcome"),
            product(_LOOKED_UP, (outcome.value for outcome in LoadOutcome)),
        )
        self._coalesced = self._counter(
            "zpmeow_loads_coalesced_total",
            "Reads that waited for a load under way. Many: hot entries expire, or the database is slow.",
            ("entity",),
            product(_LOOKED_UP),
        )
        self._invalidations = self._counter(
            "zpmeow_invalidations_total",
            "Committed changes taken over by the cache. Rising failed: Redis was not reached; the relay follows up.",
            ("source", "outcome"),
            product(_SOURCES, _SENT),
        )
        self._checks = self._counter(
            "zpmeow_consistency_checks_total",
            "Hits held against the database. Any stale: an old answer was given; read the log, then set bypass.",
            ("entity", "outcome"),
            product((entity.value for entity in Entity), _CHECKED),
        )
        self._epochs = self._counter(
            "zpmeow_cache_epochs_total",
            "How often this process made everything cached void. The log says why each time.",
            (),
            [()],
        )

    def _make_engine_metrics(self) -> None:
        self._silences = self._counter(
            "zpmeow_engine_silences_total",
            "Promises that ended without a new report. Rising: engines died, or do not reach the service.",
            (),
            [()],
        )
        self._commands = self._counter(
            "zpmeow_engine_commands_total",
            "Commands that engines got, and their words on them. Rising redelivered: engines die, or take over 30 s.",
            ("action", "outcome"),
            product((action.value for action in CommandAction), _COMMAND_OUTCOMES),
        )

    def _make_database_metrics(self) -> None:
        self._queries = self._histogram(
            "zpmeow_db_query_duration_seconds",
            "Time of a query (for one read or several), waiting for a connection included. High with callers waiting:"
            " raise DB_POOL_SIZE.",
            ("query",),
            product(_QUERIES),
        )
        self._query_failures = self._counter(
            "zpmeow_db_queries_failed_total",
            "Queries without an answer. Overloaded: no connection came free; else look at PostgreSQL.",
            ("outcome",),
            product(("error", "timeout", "overloaded")),
        )

    def _make_http_metrics(self) -> None:
        self._requests = self._histogram(
            "zpmeow_http_request_duration_seconds",
            "Time of one request by route template. Watch the share of 5xx and the slow end.",
            ("method", "route", "status"),
            [("GET", UNMATCHED_ROUTE, "404")],
        )
        self._crashes = self._counter(
            "zpmeow_crashes_total",
            "Bugs met by a request or a background task. Any at all: read the traceback in the log.",
            ("where",),
            product(("request", "background_task")),
        )

    def expect_routes(self, routes: Iterable[tuple[str, str]]) -> None:
        """Make the series of (method, route template) pairs that will be served, at 0.

        Only their successes: with every status, a scrape would take ten times as long.
        """
        for method, route in routes:
            self._requests[method, route, "200"]

    def __call__(self, event: Event, /) -> None:  # noqa: C901, PLR0912  (one short case per kind of event)
        """Count the event; the frequent kinds come first."""
        match event:
            case CacheLookedUp():
                self._lookups[event.entity, event.tier, event.outcome] += 1
            case CacheOperated():
                self._operations[event.tier, event.operation].observe(event.duration_seconds)
            case RequestFinished():
                self._requests_in_flight -= 1
                self._request_timing(event).observe(event.duration_seconds)
            case RequestStarted():
                self._requests_in_flight += 1
            case SessionRead():
                pass  # Counted as look-ups, or told by the state of the scrape.
            case QueryFinished():
                self._queries[event.query,].observe(event.duration_seconds)
                if event.outcome != "ok":
                    self._query_failures[event.outcome,] += 1
            case LoadFinished():
                self._loads[event.entity, event.outcome] += 1
            case LoadCoalesced():
                self._coalesced[event.entity,] += 1
            case InvalidationSent():
                self._invalidations[event.source, event.outcome] += event.count
            case ConsistencyChecked():
                self._checks[event.entity, event.outcome] += 1
            case EpochBegun():
                self._epochs[()] += 1
            case CircuitChanged():
                self._transitions[event.previous, event.current] += 1
            case CommandDelivered():
                self._commands[event.action, "redelivered" if event.again else "delivered"] += 1
            case CommandEnded():
                self._commands[event.action, event.outcome] += 1
            case PromisesEnded():
                self._silences[()] += event.count
            case RequestCrashed():
                self._crashes["request",] += 1
            case BackgroundTaskCrashed():
                self._crashes["background_task",] += 1
            case CorruptEntryFound() | CacheModeChanged() | DatabaseReachabilityChanged():
                pass  # As above.
            case FeedChanged() | LeadChanged() | TrustChanged() | EvictionPolicyFound():
                pass  # As above.
            case _:
                assert_never(event)

    def as_text(self, state: SystemState, accept: str) -> tuple[bytes, str]:
        """Return the exposition format that the `Accept` header asks for, and its content type."""
        self._state = state
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def as_json(self, state: SystemState) -> dict[str, object]:
        """Return the same numbers for people: `data` of the contract's `GET /metrics`."""
        numbers = Numbers(
            lookups=self._lookups,
            loads=self._loads,
            loads_coalesced=self._coalesced,
            invalidations=self._invalidations,
            consistency_checks=self._checks,
            breaker_transitions=self._transitions,
            queries_failed=self._query_failures,
            cache_get_buckets=self._operations.merged(having="get"),
            query_buckets=self._queries.merged(),
        )
        return summarize(state, numbers)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its numbers of now; called by the registry."""
        for name, help_text, labels, counts in self._counters:
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for values, count in list(counts.items()):
                counter.add_metric(values, count)
            yield counter
        for name, help_text, labels, timings in self._histograms:
            histogram = HistogramMetricFamily(name, help_text, labels=labels)
            for values, timing in list(timings.items()):
                buckets = [(_BOUND_TEXTS[bound], count) for bound, count in timing.buckets()]
                histogram.add_metric(values, buckets, timing.sum_seconds)
            yield histogram
        yield _gauge(
            "zpmeow_http_requests_in_flight",
            "Requests being answered. Rising without end: something hangs.",
            self._requests_in_flight,
        )
        yield _gauge(
            "zpmeow_cache_hit_ratio",
            "Share of look-ups that a tier answered since the start. Low for long: lifetimes or evictions.",
            hit_ratio(self._lookups),
        )
        if self._state is not None:
            yield from _cache_gauges(self._state)
            yield from _coherence_gauges(self._state)
            yield from _database_gauges(self._state)

    def _request_timing(self, event: RequestFinished) -> Timing:
        labels = (event.method, event.route, str(event.status))
        if labels in self._requests:
            return self._requests[labels]
        method = event.method if event.method in _METHODS else OTHER
        status = labels[2] if labels[2] in _HTTP_STATUSES else OTHER
        route = event.route if len(self._requests) < _MAX_HTTP_SERIES else UNMATCHED_ROUTE
        return self._requests[method, route, status]

    def _counter(self, name: str, help_text: str, labels: Labels, known: Iterable[Labels]) -> Counts:
        counts = Counts(known)
        self._counters.append((name, help_text, labels, counts))
        return counts

    def _histogram(self, name: str, help_text: str, labels: Labels, known: Iterable[Labels]) -> Timings:
        timings = Timings(known)
        self._histograms.append((name, help_text, labels, timings))
        return timings


def _cache_gauges(state: SystemState) -> Iterator[Metric]:
    yield _gauge(
        "zpmeow_cache_keys",
        "Keys in Redis, NaN while unknown. A fall: evictions or a flush.",
        math.nan if state.cache_keys is None else state.cache_keys,
    )
    yield _gauge(
        "zpmeow_cache_connected",
        "1 while Redis answers. At 0 mend Redis; users still get answers.",
        state.cache_connected,
    )
    yield _gauge(
        "zpmeow_cache_trusted",
        "1 while reads may be answered from Redis. At 0 the database bears all of them.",
        state.cache_trusted,
    )
    yield _gauge("zpmeow_cache_local_entries", "Entries in the tier inside the process.", state.local_entries)
    yield _gauge(
        "zpmeow_cache_local_bytes",
        "Bytes that they take. At CACHE_LOCAL_MAX_BYTES with a low local hit rate: raise it.",
        state.local_bytes,
    )
    yield _labelled_gauge(
        "zpmeow_breaker_state",
        "1 for the state that the breaker is in. Open: Redis is left alone until a probe succeeds.",
        "state",
        {known: state.circuit == known for known in _CIRCUIT_STATES},
    )
    yield _labelled_gauge(
        "zpmeow_cache_mode",
        "1 for the mode that operators chose. Bypass left on burdens the database.",
        "mode",
        {known: state.mode == known for known in _MODES},
    )


def _coherence_gauges(state: SystemState) -> Iterator[Metric]:
    yield _gauge(
        "zpmeow_coherence_lag_seconds",
        "How old the position is that Redis was last seen with, NaN without one. Above 20 Redis is hardly believed.",
        math.nan if state.lag_seconds is None else state.lag_seconds,
    )
    yield _gauge(
        "zpmeow_coherence_lag_changes",
        "Committed changes since that position. Rising: the relay does not get on; is Redis away, does anybody lead?",
        state.lag_changes,
    )
    yield _gauge(
        "zpmeow_change_feed_live",
        "1 while this process hears of every change. At 0 it answers from the database alone.",
        state.feed_is_live,
    )
    yield _gauge(
        "zpmeow_relay_leading",
        "1 in the one process that brings the change log to Redis. Nowhere 1 for long: nothing cached is believed.",
        state.leads_relay,
    )


def _database_gauges(state: SystemState) -> Iterator[Metric]:
    yield _gauge("zpmeow_db_connected", "1 while PostgreSQL answers. At 0 act now.", state.database_problem is None)
    yield _labelled_gauge(
        "zpmeow_db_pool_connections",
        "Connections by use. No idle one for long: raise DB_POOL_SIZE.",
        "state",
        {"idle": state.pool_idle, "in_use": state.pool_in_use},
    )
    yield _gauge("zpmeow_db_pool_size", "The most connections of this process (DB_POOL_SIZE).", state.pool_size)
    yield _gauge(
        "zpmeow_db_pool_waiting",
        "Callers that wait for a connection. Above 0 for long: the database is too slow.",
        state.pool_waiting,
    )


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _labelled_gauge(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for known, value in values.items():
        family.add_metric([known], value)
    return family
