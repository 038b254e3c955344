"""Every metric of the service: its name, its labels, and what to do with its number. They stand here and nowhere else.

Series exist from the start, at 0, so that a first increment is not lost to `rate()`. Labels are bounded: methods and
statuses by HTTP, routes by their templates and a limit, all else by the code.
"""

import math
from itertools import permutations, product
from typing import Final

from zpmeow.domain.commands import CommandAction
from zpmeow.domain.records import Entity
from zpmeow.events import LoadOutcome, LookupOutcome, Tier
from zpmeow.telemetry.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from zpmeow.telemetry.log_sink import LogSink
from zpmeow.telemetry.summary import hit_ratio

UNMATCHED_ROUTE: Final = "unmatched"

_LOOKED_UP: Final = (*(entity.value for entity in Entity), "name", "key")
_TIERS: Final = tuple(tier.value for tier in Tier)
_OPERATIONS: Final = ("get", "put", "delete", "ping", "info", "apply")
_SOURCES: Final = ("write", "relay", "feed", "operator")
_SENT: Final = ("applied", "superseded", "refused", "failed")
_CHECKED: Final = ("match", "stale", "missing")
_COMMAND_OUTCOMES: Final = ("delivered", "redelivered", "done", "failed", "withdrawn")
_CIRCUIT_STATES: Final = ("closed", "open", "half_open")
_MODES: Final = ("normal", "bypass")
_QUERIES: Final = (
    *("find", "find_many", "list", "recent", "create", "update", "delete", "change_status"),
    *("put_qr", "put_pairing_code", "put_credential", "remove_credential"),
    *("control_read", "control_set_mode", "control_restore", "prune_changes", "ping", "schema_check"),
    *("record_silence", "take_commands", "end_command", "release_commands", "prune_commands"),
)


class Catalogue:
    """The families that are counted in this process, each at 0."""

    def __init__(self, log: LogSink | None = None) -> None:
        """Make them. `log`: counts its lines itself."""
        self.requests_in_flight = 0
        self.requests_waiting = 0
        self._make_cache_families()
        self._make_load_families()
        self._make_engine_families()
        self._make_service_families()
        self._make_log_families(log or LogSink(()))

    def _make_cache_families(self) -> None:
        self.lookups = CounterFamily(
            "zpmeow_cache_lookups_total",
            "Look-ups of entries. Rising timeout or error: look at Redis; corrupt: who else writes there?",
            ("entity", "tier", "outcome"),
            product(_LOOKED_UP, _TIERS, (outcome.value for outcome in LookupOutcome)),
        )
        self.operations = HistogramFamily(
            "zpmeow_cache_operation_duration_seconds",
            "Time of one call to a tier, failed ones included. Near CACHE_TIMEOUT: Redis is slow or far away.",
            ("tier", "operation"),
            product((Tier.REDIS.value,), _OPERATIONS),
        )
        self.transitions = CounterFamily(
            "zpmeow_breaker_transitions_total",
            "Steps of the breaker. Many: Redis comes and goes; look at its host and the network.",
            ("from", "to"),
            permutations(_CIRCUIT_STATES, 2),
        )

    def _make_load_families(self) -> None:
        self.loads = CounterFamily(
            "zpmeow_loads_total",
            "Reads that reached the database: compare with the look-ups to see what the cache saves.",
            ("entity", "outcome"),
            product(_LOOKED_UP, (outcome.value for outcome in LoadOutcome)),
        )
        self.coalesced = CounterFamily(
            "zpmeow_loads_coalesced_total",
            "Reads that waited for a load under way. Many: hot entries expire, or the database is slow.",
            ("entity",),
            product(_LOOKED_UP),
        )
        self.invalidations = CounterFamily(
            "zpmeow_invalidations_total",
            "Committed changes taken over by the cache. Rising failed: Redis was not reached; the relay follows up.",
            ("source", "outcome"),
            product(_SOURCES, _SENT),
        )
        self.checks = CounterFamily(
            "zpmeow_consistency_checks_total",
            "Hits held against the database. Any stale: an old answer was given; read the log, then set bypass.",
            ("entity", "outcome"),
            product((entity.value for entity in Entity), _CHECKED),
        )
        self.epochs = CounterFamily(
            "zpmeow_cache_epochs_total",
            "How often this process made everything cached void. The log says why each time.",
            (),
            [()],
        )

    def _make_engine_families(self) -> None:
        self.silences = CounterFamily(
            "zpmeow_engine_silences_total",
            "Promises that ended without a new report. Rising: engines died, or do not reach the service.",
            (),
            [()],
        )
        self.commands = CounterFamily(
            "zpmeow_engine_commands_total",
            "Commands that engines got, and their words on them. Rising redelivered: engines die, or take over 30 s.",
            ("action", "outcome"),
            product((action.value for action in CommandAction), _COMMAND_OUTCOMES),
        )

    def _make_service_families(self) -> None:
        self.queries = HistogramFamily(
            "zpmeow_db_query_duration_seconds",
            "Time of a query (for one read or several), waiting for a connection included. High with callers waiting:"
            " raise DB_POOL_SIZE.",
            ("query",),
            product(_QUERIES),
        )
        self.query_failures = CounterFamily(
            "zpmeow_db_queries_failed_total",
            "Queries without an answer. Overloaded: no connection came free; else look at PostgreSQL.",
            ("outcome",),
            product(("error", "timeout", "overloaded")),
        )
        self.requests = HistogramFamily(
            "zpmeow_http_request_duration_seconds",
            "Time of one request by route template, less what it waited because its caller asked it to. Watch the share"
            " of 5xx and the slow end.",
            ("method", "route", "status"),
            [("GET", UNMATCHED_ROUTE, "404")],
        )
        self.loop_delays = HistogramFamily(
            "zpmeow_event_loop_delay_seconds",
            "How late the event loop comes to what is due. Above 10 ms: too little CPU, or something holds it up.",
            (),
            [()],
        )
        self.crashes = CounterFamily(
            "zpmeow_crashes_total",
            "Bugs met by a request or a background task. Any at all: read the traceback in the log.",
            ("where",),
            product(("request", "background_task")),
        )

    def _make_log_families(self, log: LogSink) -> None:
        self.log_lines = CounterFamily(
            "zpmeow_log_lines_total", "Lines of the log by level. Any error: read it.", ("level",), log.told
        )
        self.lost_log_lines = CounterFamily(
            "zpmeow_log_lines_lost_total",
            "Lines that could not be written: the disk is full, or who reads the log does not.",
            (),
            log.lost,
        )

    def families(self) -> list[Family]:
        """Return all there are: what is counted here, what follows from that, and what a scrape brings along."""
        counted = [family for family in vars(self).values() if isinstance(family, (CounterFamily, HistogramFamily))]
        followed = (
            GaugeFamily(
                name="zpmeow_http_requests_in_flight",
                help_text="Requests being answered, without those that wait for news. Rising without end: something"
                " hangs.",
                read=lambda _state: self.requests_in_flight - self.requests_waiting,
            ),
            GaugeFamily(
                name="zpmeow_http_requests_waiting",
                help_text="Requests that wait for news because their callers asked them to. At 0 no engine is listening"
                " here.",
                read=lambda _state: self.requests_waiting,
            ),
            GaugeFamily(
                name="zpmeow_cache_hit_ratio",
                help_text="Share of look-ups that a tier answered since the start. Low for long: lifetimes or"
                " evictions.",
                read=lambda _state: hit_ratio(self.lookups.counts),
            ),
        )
        return [*counted, *followed, *_GAUGES]


_GAUGES: Final = (
    GaugeFamily(
        name="zpmeow_cache_keys",
        help_text="Keys in Redis, NaN while unknown. A fall: evictions or a flush.",
        read=lambda state: math.nan if state.cache_keys is None else state.cache_keys,
    ),
    GaugeFamily(
        name="zpmeow_cache_connected",
        help_text="1 while Redis answers; 0 in bypass, where it is not asked. At 0 else mend Redis; users get answers.",
        read=lambda state: state.cache_connected,
    ),
    GaugeFamily(
        name="zpmeow_cache_trusted",
        help_text="1 while reads may be answered from Redis. At 0 the database bears all of them.",
        read=lambda state: state.cache_trusted,
    ),
    GaugeFamily(
        name="zpmeow_cache_local_entries",
        help_text="Entries in the tier inside the process.",
        read=lambda state: state.local_entries,
    ),
    GaugeFamily(
        name="zpmeow_cache_local_bytes",
        help_text="Bytes that they take. At CACHE_LOCAL_MAX_BYTES with a low local hit rate: raise it.",
        read=lambda state: state.local_bytes,
    ),
    GaugeFamily(
        name="zpmeow_breaker_state",
        help_text="1 for the state that the breaker is in. Open: Redis is left alone until a probe succeeds.",
        label="state",
        read=lambda state: {known: state.circuit == known for known in _CIRCUIT_STATES},
    ),
    GaugeFamily(
        name="zpmeow_cache_mode",
        help_text="1 for the mode that operators chose. Bypass left on burdens the database.",
        label="mode",
        read=lambda state: {known: state.mode == known for known in _MODES},
    ),
    GaugeFamily(
        name="zpmeow_coherence_lag_seconds",
        help_text="How old the position is that Redis was last seen with, NaN without one. Above 20 Redis is hardly"
        " believed.",
        read=lambda state: math.nan if state.lag_seconds is None else state.lag_seconds,
    ),
    GaugeFamily(
        name="zpmeow_coherence_lag_changes",
        help_text="Committed changes since that position. Rising: the relay does not get on; is Redis away, does"
        " anybody lead?",
        read=lambda state: state.lag_changes,
    ),
    GaugeFamily(
        name="zpmeow_change_feed_live",
        help_text="1 while this process hears of every change. At 0 it answers from the database alone.",
        read=lambda state: state.feed_is_live,
    ),
    GaugeFamily(
        name="zpmeow_relay_leading",
        help_text="1 in the one process that brings the change log to Redis. Nowhere 1 for long: nothing cached is"
        " believed.",
        read=lambda state: state.leads_relay,
    ),
    GaugeFamily(
        name="zpmeow_db_connected",
        help_text="1 while PostgreSQL answers. At 0 act now.",
        read=lambda state: state.database_problem is None,
    ),
    GaugeFamily(
        name="zpmeow_db_pool_connections",
        help_text="Connections by use. No idle one for long: raise DB_POOL_SIZE.",
        label="state",
        read=lambda state: {"idle": state.pool_idle, "in_use": state.pool_in_use},
    ),
    GaugeFamily(
        name="zpmeow_db_pool_size",
        help_text="The most connections of this process (DB_POOL_SIZE).",
        read=lambda state: state.pool_size,
    ),
    GaugeFamily(
        name="zpmeow_db_pool_waiting",
        help_text="Callers that wait for a connection. Above 0 for long: the database is too slow.",
        read=lambda state: state.pool_waiting,
    ),
)
"""What only exists at the moment of a scrape."""
