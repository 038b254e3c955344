"""Metrics: the contract's names and labels, each event in its number, bounded labels, both text formats."""

import ast
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import orjson
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import zpmeow.postgres
from zpmeow.events import (
    BackgroundTaskCrashed,
    CacheLookedUp,
    CacheModeChanged,
    CacheOperated,
    CircuitChanged,
    ConsistencyChecked,
    CorruptEntryFound,
    DatabaseReachabilityChanged,
    EpochBegun,
    Event,
    FeedChanged,
    InvalidationSent,
    LeadChanged,
    LoadCoalesced,
    LoadFinished,
    LoadOutcome,
    LookupOutcome,
    LoopChecked,
    QueryFinished,
    RequestCrashed,
    RequestFinished,
    RequestStarted,
    SessionRead,
    Tier,
    TrustChanged,
    WaitBegun,
    WaitEnded,
)
from zpmeow.services.system_state import SystemState
from zpmeow.telemetry.log_sink import LogSink
from zpmeow.telemetry.metrics import Metrics

HEALTHY = SystemState(
    cache_enabled=True,
    cache_connected=True,
    cache_keys=42,
    cache_version="Redis 7.0.15",
    circuit="closed",
    mode="normal",
    cache_trusted=True,
    cache_problem=None,
    database_problem=None,
    lag_seconds=0.25,
    lag_changes=3,
    feed_is_live=True,
    leads_relay=True,
    local_entries=7,
    local_bytes=9_000,
    pool_size=10,
    pool_idle=3,
    pool_in_use=2,
    pool_waiting=1,
)
ENTITIES = ("session", "status", "qr", "credential", "name", "key")
CIRCUITS = ("closed", "open", "half_open")


class Scrapes:
    """Metrics, and their samples by name and labels."""

    def __init__(self) -> None:
        """Start at 0."""
        self.metrics = Metrics()
        self.system = HEALTHY

    def sample(self, name: str, **labels: str) -> float | None:
        """Return a sample of a scrape now, as Prometheus reads it; None if there is no such series."""
        text, _ = self.metrics.as_text(self.system, "")
        of_that_name = [line for line in text.decode().splitlines() if line.startswith(name)]
        found = [
            sample.value
            for family in parse_text("\n".join(of_that_name))
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture
def scrapes() -> Scrapes:
    """Fresh metrics."""
    return Scrapes()


FROM_THE_START = [
    *(
        ("zpmeow_cache_lookups_total", {"entity": entity, "tier": tier, "outcome": outcome})
        for tier, entity, outcome in product(
            ("local", "redis"), ENTITIES, ("hit", "miss", "stale", "corrupt", "timeout", "error", "bypass")
        )
    ),
    *(
        ("zpmeow_cache_operation_duration_seconds_count", {"tier": "redis", "operation": operation})
        for operation in ("get", "put", "delete", "ping", "info", "apply")
    ),
    ("zpmeow_cache_hit_ratio", {}),
    *(("zpmeow_breaker_transitions_total", {"from": a, "to": b}) for a, b in permutations(CIRCUITS, 2)),
    *(
        ("zpmeow_loads_total", {"entity": entity, "outcome": outcome})
        for entity, outcome in product(ENTITIES, ("found", "absent", "error"))
    ),
    *(("zpmeow_loads_coalesced_total", {"entity": entity}) for entity in ENTITIES),
    *(
        ("zpmeow_invalidations_total", {"source": source, "outcome": outcome})
        for source, outcome in product(
            ("write", "relay", "feed", "operator"), ("applied", "superseded", "refused", "failed")
        )
    ),
    *(
        ("zpmeow_consistency_checks_total", {"entity": entity, "outcome": outcome})
        for entity, outcome in product(ENTITIES[:4], ("match", "stale", "missing"))
    ),
    ("zpmeow_cache_epochs_total", {}),
    *(("zpmeow_db_queries_failed_total", {"outcome": outcome}) for outcome in ("error", "timeout", "overloaded")),
    ("zpmeow_db_query_duration_seconds_count", {"query": "find"}),
    ("zpmeow_http_request_duration_seconds_count", {"method": "GET", "route": "unmatched", "status": "404"}),
    ("zpmeow_http_requests_in_flight", {}),
    ("zpmeow_http_requests_waiting", {}),
    *(("zpmeow_log_lines_total", {"level": level}) for level in ("debug", "info", "warning", "error")),
    ("zpmeow_log_lines_lost_total", {}),
    ("zpmeow_event_loop_delay_seconds_count", {}),
    *(("zpmeow_crashes_total", {"where": where}) for where in ("request", "background_task")),
]


@pytest.mark.parametrize(("name", "labels"), FROM_THE_START)
def test_series_is_zero_when_nothing_has_happened(scrapes: Scrapes, name: str, labels: dict[str, str]) -> None:
    """A first increment is seen by rate(), because the series was there at 0."""
    assert scrapes.sample(name, **labels) == 0


EVENTS: list[tuple[Event, str, dict[str, str]]] = [
    (
        CacheLookedUp("qr", Tier.REDIS, LookupOutcome.CORRUPT),
        "zpmeow_cache_lookups_total",
        {"entity": "qr", "tier": "redis", "outcome": "corrupt"},
    ),
    (
        CacheOperated("redis", "put", 0.0002),
        "zpmeow_cache_operation_duration_seconds_count",
        {"tier": "redis", "operation": "put"},
    ),
    (
        LoadFinished("status", LoadOutcome.ABSENT),
        "zpmeow_loads_total",
        {"entity": "status", "outcome": "absent"},
    ),
    (LoadCoalesced("key"), "zpmeow_loads_coalesced_total", {"entity": "key"}),
    (
        InvalidationSent("relay", "applied"),
        "zpmeow_invalidations_total",
        {"source": "relay", "outcome": "applied"},
    ),
    (
        ConsistencyChecked("qr", "stale", "zpmeow:{1}:qr", 1, 2),
        "zpmeow_consistency_checks_total",
        {"entity": "qr", "outcome": "stale"},
    ),
    (EpochBegun("x"), "zpmeow_cache_epochs_total", {}),
    (QueryFinished("find", "timeout", 5.0), "zpmeow_db_query_duration_seconds_count", {"query": "find"}),
    (QueryFinished("find", "timeout", 5.0), "zpmeow_db_queries_failed_total", {"outcome": "timeout"}),
    (
        CircuitChanged("closed", "open", "x"),
        "zpmeow_breaker_transitions_total",
        {"from": "closed", "to": "open"},
    ),
    (RequestStarted(), "zpmeow_http_requests_in_flight", {}),
    (WaitBegun(), "zpmeow_http_requests_waiting", {}),
    (LoopChecked(0.02), "zpmeow_event_loop_delay_seconds_count", {}),
    (
        RequestFinished("id", "GET", "/health", 200, 0.01, None),
        "zpmeow_http_request_duration_seconds_count",
        {"method": "GET", "route": "/health", "status": "200"},
    ),
    (RequestCrashed("id", "GET", "/health", ValueError()), "zpmeow_crashes_total", {"where": "request"}),
    (BackgroundTaskCrashed("probe", ValueError()), "zpmeow_crashes_total", {"where": "background_task"}),
]


@pytest.mark.parametrize(("event", "name", "labels"), EVENTS)
def test_event_is_counted_once(scrapes: Scrapes, event: Event, name: str, labels: dict[str, str]) -> None:
    """Each event adds one to its number."""
    scrapes.metrics(event)

    assert scrapes.sample(name, **labels) == 1


def test_changes_are_counted_one_by_one_when_told_together(scrapes: Scrapes) -> None:
    """A batch of the relay counts as many changes as it brought."""
    scrapes.metrics(InvalidationSent("relay", "applied", 500))

    assert scrapes.sample("zpmeow_invalidations_total", source="relay", outcome="applied") == 500


def test_loads_are_counted_one_by_one_when_told_together(scrapes: Scrapes) -> None:
    """What one query has brought counts as many entries."""
    scrapes.metrics(LoadFinished("qr", LoadOutcome.FOUND, 3))

    assert scrapes.sample("zpmeow_loads_total", entity="qr", outcome="found") == 3


def test_coherence_is_told_as_it_is_when_scraped(scrapes: Scrapes) -> None:
    """Lag, feed, lead and local tier are those of the state; an unknown lag is no number."""
    told = {
        name: scrapes.sample(f"zpmeow_{name}")
        for name in (
            "coherence_lag_seconds",
            "coherence_lag_changes",
            "change_feed_live",
            "relay_leading",
            "cache_local_entries",
            "cache_local_bytes",
        )
    }
    scrapes.system = replace(HEALTHY, lag_seconds=None)
    unknown = scrapes.sample("zpmeow_coherence_lag_seconds")

    assert list(told.values()) == [0.25, 3, 1, 1, 7, 9_000]
    assert unknown != unknown  # noqa: PLR0124  (NaN alone is not itself)


def test_query_is_not_a_failure_when_it_is_answered(scrapes: Scrapes) -> None:
    """An answered query counts for its time alone."""
    scrapes.metrics(QueryFinished("find", "ok", 0.001))

    assert scrapes.sample("zpmeow_db_queries_failed_total", outcome="ok") is None


@pytest.mark.parametrize(
    "event",
    [
        SessionRead("name", from_cache=True),
        CorruptEntryFound("key", "size"),
        CacheModeChanged("bypass"),
        DatabaseReachabilityChanged("gone"),
        FeedChanged(live=True),
        LeadChanged(leads=True),
        TrustChanged("x"),
    ],
)
def test_event_without_a_number_changes_nothing(scrapes: Scrapes, event: Event) -> None:
    """What other events or the state already tell is not counted twice."""
    before = own_lines(scrapes)

    scrapes.metrics(event)

    assert own_lines(scrapes) == before


def own_lines(scrapes: Scrapes) -> list[bytes]:
    """Return the lines of a scrape that are the service's own (the process's own change all the time)."""
    text, _ = scrapes.metrics.as_text(HEALTHY, "")
    return [line for line in text.splitlines() if line.startswith(b"zpmeow_")]


def test_in_flight_returns_to_zero_when_requests_finish(scrapes: Scrapes) -> None:
    """Started minus finished."""
    scrapes.metrics(RequestStarted())
    scrapes.metrics(RequestStarted())
    scrapes.metrics(RequestFinished("id", "GET", "/x", 200, 0.1, None))

    assert scrapes.sample("zpmeow_http_requests_in_flight") == 1


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, "0.0001"), (0.0001, "0.0001"), (0.00011, "0.00025"), (9.0, "+Inf")]
)
def test_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed(
    scrapes: Scrapes, seconds: float, bound: str
) -> None:
    """Buckets are cumulative and their bounds belong to them."""
    bounds = ["0.0001", "0.00025", "0.0005", "5.0", "+Inf"]

    scrapes.metrics(CacheOperated("redis", "get", seconds))

    counts = {
        le: scrapes.sample("zpmeow_cache_operation_duration_seconds_bucket", tier="redis", operation="get", le=le)
        for le in bounds
    }
    assert counts == {le: float(bounds.index(le) >= bounds.index(bound)) for le in bounds}


def test_state_becomes_gauges(scrapes: Scrapes) -> None:
    """What only exists at one moment is told as it is at the scrape."""
    assert scrapes.sample("zpmeow_cache_keys") == 42
    assert scrapes.sample("zpmeow_cache_connected") == 1
    assert scrapes.sample("zpmeow_cache_trusted") == 1
    assert scrapes.sample("zpmeow_db_connected") == 1
    assert scrapes.sample("zpmeow_db_pool_connections", state="idle") == 3
    assert scrapes.sample("zpmeow_db_pool_connections", state="in_use") == 2
    assert scrapes.sample("zpmeow_db_pool_size") == 10
    assert scrapes.sample("zpmeow_db_pool_waiting") == 1


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_breaker_state_is_one_hot(scrapes: Scrapes, circuit: str) -> None:
    """Exactly one state is 1."""
    scrapes.system = replace(HEALTHY, circuit=circuit)

    values = {known: scrapes.sample("zpmeow_breaker_state", state=known) for known in CIRCUITS}

    assert values == {known: float(known == circuit) for known in CIRCUITS}


@pytest.mark.parametrize("mode", ["normal", "bypass"])
def test_cache_mode_is_one_hot(scrapes: Scrapes, mode: str) -> None:
    """Exactly one mode is 1."""
    scrapes.system = replace(HEALTHY, mode=mode)

    values = {known: scrapes.sample("zpmeow_cache_mode", mode=known) for known in ("normal", "bypass")}

    assert values == {known: float(known == mode) for known in ("normal", "bypass")}


def test_gauges_fall_when_redis_and_the_database_are_away(scrapes: Scrapes) -> None:
    """The number of keys is unknown then, not 0."""
    scrapes.system = replace(
        HEALTHY,
        cache_connected=False,
        cache_keys=None,
        cache_version=None,
        cache_trusted=False,
        cache_problem="refused",
        database_problem="refused",
    )

    keys = scrapes.sample("zpmeow_cache_keys")

    assert keys != keys  # noqa: PLR0124  (NaN alone is not itself)
    assert scrapes.sample("zpmeow_cache_connected") == 0
    assert scrapes.sample("zpmeow_cache_trusted") == 0
    assert scrapes.sample("zpmeow_db_connected") == 0


def test_hit_ratio_counts_hits_and_misses_only(scrapes: Scrapes) -> None:
    """Bypassed, failed, corrupt and stale look-ups are neither hits nor misses."""
    for outcome in (*[LookupOutcome.HIT] * 3, *LookupOutcome):
        scrapes.metrics(CacheLookedUp("session", Tier.REDIS, outcome))

    assert scrapes.sample("zpmeow_cache_hit_ratio") == 0.8


def test_hit_ratio_counts_no_miss_when_the_next_tier_answers(scrapes: Scrapes) -> None:
    """What the local tier lacks is asked of Redis: one read, one hit."""
    scrapes.metrics(CacheLookedUp("session", Tier.LOCAL, LookupOutcome.MISS))
    scrapes.metrics(CacheLookedUp("session", Tier.REDIS, LookupOutcome.HIT))

    assert scrapes.sample("zpmeow_cache_hit_ratio") == 1
    assert scrapes.metrics.as_json(HEALTHY)["cache"]["local"]["hit_rate"] == 0  # type: ignore[index]


def test_unknown_methods_and_statuses_share_a_label(scrapes: Scrapes) -> None:
    """Callers cannot make series by inventing methods."""
    for number in range(50):
        scrapes.metrics(RequestFinished("id", f"BREW{number}", "/x", 999, 0.1, None))

    count = scrapes.sample("zpmeow_http_request_duration_seconds_count", method="other", route="/x", status="other")
    assert count == 50


def test_routes_are_bounded_when_paths_pass_for_routes(scrapes: Scrapes) -> None:
    """Were paths ever to come as routes, the series would still not grow for ever."""
    for number in range(5000):
        scrapes.metrics(RequestFinished("id", "GET", f"/{number}", 200, 0.1, None))

    assert (
        scrapes.sample("zpmeow_http_request_duration_seconds_count", method="GET", route="unmatched", status="200") or 0
    ) >= 4000
    assert len([line for line in own_lines(scrapes) if b"request_duration_seconds_count" in line]) < 1100


def test_expected_routes_are_there_from_the_start(scrapes: Scrapes) -> None:
    """Every route that will be served has its series at 0, and the first failure is a rise."""
    scrapes.metrics.expect_routes([("PUT", "/sessions/{sessionId}/qr")])

    for status in ("200", "500", "503"):
        labels = {"method": "PUT", "route": "/sessions/{sessionId}/qr", "status": status}
        assert scrapes.sample("zpmeow_http_request_duration_seconds_count", **labels) == 0


def test_unannounced_labels_are_counted_rather_than_raised(scrapes: Scrapes) -> None:
    """An observer must not raise: a new tier or query gets a series by being used."""
    scrapes.metrics(CacheLookedUp("session", Tier.LOCAL, LookupOutcome.HIT))
    scrapes.metrics(QueryFinished("new_query", "ok", 0.1))

    assert scrapes.sample("zpmeow_cache_lookups_total", entity="session", tier="local", outcome="hit") == 1
    assert scrapes.sample("zpmeow_db_query_duration_seconds_count", query="new_query") == 1


def test_every_query_that_is_sent_is_known_from_the_start(scrapes: Scrapes) -> None:
    """The names of queries in `postgres/` have their series at 0."""
    senders = {"fetch", "fetch_row", "fetch_row_from_reserve", "transaction", "_write"}
    sent = {
        call.args[0].value
        for file in Path(zpmeow.postgres.__path__[0]).glob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in senders
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }
    names = {name for name in sent if name.replace("_", "").isalpha()}

    assert len(names) > 5
    missing = {n for n in names if scrapes.sample("zpmeow_db_query_duration_seconds_count", query=n) is None}
    assert missing == set()


def test_text_is_the_classic_format_when_nothing_else_is_asked_for(scrapes: Scrapes) -> None:
    """What Prometheus of any age reads."""
    text, content_type = scrapes.metrics.as_text(HEALTHY, "text/plain")

    families = {family.name: family for family in parse_text(text.decode())}
    assert content_type.startswith("text/plain; version=0.0.4")
    assert families["zpmeow_cache_lookups"].type == "counter"
    assert b"_created" not in text


def test_text_is_openmetrics_when_asked_for(scrapes: Scrapes) -> None:
    """OpenMetrics parses by its own strict parser and ends with its mark."""
    scrapes.metrics(RequestFinished("id", "GET", "/x", 200, 0.1, None))

    text, content_type = scrapes.metrics.as_text(HEALTHY, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    families = {family.name for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert {"zpmeow_build", "zpmeow_loads", "zpmeow_http_request_duration_seconds", "process_cpu_seconds"} <= families
    assert text.endswith(b"# EOF\n")


def test_build_info_names_versions(scrapes: Scrapes) -> None:
    """One series tells what runs."""
    text, _ = scrapes.metrics.as_text(HEALTHY, "")

    (line,) = [line for line in text.decode().splitlines() if line.startswith("zpmeow_build_info{")]
    assert 'version="' in line
    assert 'python="3.' in line


def test_every_metric_says_what_to_do(scrapes: Scrapes) -> None:
    """Each of the service's metrics has a help text of its own."""
    text, _ = scrapes.metrics.as_text(HEALTHY, "")

    helps = [family.documentation for family in parse_text(text.decode()) if family.name.startswith("zpmeow_")]
    assert len(helps) == len(set(helps))
    assert all(len(text) > 20 for text in helps)


def test_two_instances_do_not_share_numbers() -> None:
    """Nothing is kept in the library's global registry."""
    first, second = Scrapes(), Scrapes()

    first.metrics(LoadCoalesced("session"))

    assert second.sample("zpmeow_loads_coalesced_total", entity="session") == 0


def test_json_tells_the_contracts_numbers(scrapes: Scrapes) -> None:
    """The same numbers as the text, in the contract's shape, of plain values."""
    for outcome in (LookupOutcome.HIT, LookupOutcome.HIT, LookupOutcome.MISS, LookupOutcome.BYPASS):
        scrapes.metrics(CacheLookedUp("session", Tier.REDIS, outcome))
    scrapes.metrics(CacheOperated("redis", "get", 0.0008))
    scrapes.metrics(CacheOperated("redis", "put", 4.0))
    scrapes.metrics(QueryFinished("find", "overloaded", 5.0))
    scrapes.metrics(LoadFinished("session", LoadOutcome.FOUND))

    data = orjson.loads(orjson.dumps(scrapes.metrics.as_json(HEALTHY)))

    cache, database = data["cache"], data["database"]
    assert (cache["connected"], cache["total_keys"], cache["version"]) == (True, 42, "Redis 7.0.15")
    assert (cache["hit_rate"], cache["breaker"], cache["mode"]) == (0.6667, "closed", "normal")
    assert cache["latency_ms"] == {"p50": 0.75, "p99": 0.995}
    assert cache["lookups"]["redis"]["session"]["hit"] == 2
    assert cache["loads"]["session"] == {"found": 1, "absent": 0, "error": 0}
    assert database["pool"] == {"size": 10, "idle": 3, "in_use": 2, "waiting": 1}
    assert database["queries"]["failed"] == {"error": 0, "timeout": 0, "overloaded": 1}
    assert database["queries"]["total"] == 1


def test_json_says_null_and_zero_when_nothing_was_measured(scrapes: Scrapes) -> None:
    """No look-up: a rate of 0.0; no duration: null, not 0."""
    data = orjson.loads(orjson.dumps(scrapes.metrics.as_json(replace(HEALTHY, cache_keys=None))))

    assert data["cache"]["hit_rate"] == 0.0
    assert data["cache"]["latency_ms"] == {"p50": None, "p99": None}
    assert data["cache"]["total_keys"] is None


def test_json_can_be_encoded_when_a_label_is_a_member_of_an_enum(scrapes: Scrapes) -> None:
    """Orjson takes plain text for keys only."""
    scrapes.metrics(CacheLookedUp(LookupOutcome.HIT, Tier.LOCAL, LookupOutcome.HIT))
    scrapes.metrics(LoadCoalesced(LookupOutcome.HIT))

    assert orjson.dumps(scrapes.metrics.as_json(HEALTHY))


def test_both_formats_tell_the_same_numbers(scrapes: Scrapes) -> None:
    """By the library's parsers, the strict one included: names, labels and numbers, of our own series."""
    scrapes.metrics(CacheOperated("redis", "get", 0.0008))
    scrapes.metrics(RequestFinished("id", "GET", "/x", 200, 0.1, None))
    scrapes.metrics(LoadCoalesced("session"))

    classic, _ = scrapes.metrics.as_text(HEALTHY, "")
    modern, _ = scrapes.metrics.as_text(HEALTHY, "application/openmetrics-text;version=1.0.0")

    def own(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            if family.name.startswith("zpmeow_")
            for sample in family.samples
        }

    found = own(parse_text(classic.decode()))
    assert found == own(parse_openmetrics(modern.decode()))  # type: ignore[no-untyped-call]
    assert len(found) > 600


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
def test_labels_are_escaped_when_they_hold_what_ends_them(scrapes: Scrapes, accept: str) -> None:
    """No label can forge a series: quotes, backslashes and line breaks come back as they were."""
    route = 'a"} 1\nforged{x="\\'
    scrapes.metrics(RequestFinished("id", "GET", route, 200, 0.1, None))

    text = scrapes.metrics.as_text(HEALTHY, accept)[0].decode()

    parse = parse_openmetrics if accept else parse_text
    families = {family.name: family for family in parse(text)}
    routes = {sample.labels["route"] for sample in families["zpmeow_http_request_duration_seconds"].samples}
    assert route in routes
    assert "forged" not in families


def test_waits_at_the_callers_wish_are_no_part_of_a_request(scrapes: Scrapes) -> None:
    """A long poll of 30 s that was answered at once is a fast request; while it waits it is not being answered."""
    scrapes.metrics(RequestStarted())
    scrapes.metrics(WaitBegun())
    waiting = [scrapes.sample(f"zpmeow_http_requests_{what}") for what in ("in_flight", "waiting")]
    scrapes.metrics(WaitEnded())
    going_on = [scrapes.sample(f"zpmeow_http_requests_{what}") for what in ("in_flight", "waiting")]
    scrapes.metrics(RequestFinished("id", "GET", "/x", 200, 30.002, None, waited_seconds=30.0))

    assert (waiting, going_on) == ([0, 1], [1, 0])
    labels = {"method": "GET", "route": "/x", "status": "200"}
    assert scrapes.sample("zpmeow_http_request_duration_seconds_bucket", **labels, le="0.0025") == 1


def test_lines_of_the_log_are_counted_where_they_are_written() -> None:
    """By level; those that were lost, too."""

    class FullDisk:
        def write_line(self, line: str) -> None:
            raise OSError(line)

        def close(self) -> None:
            pass

    sink = LogSink([(FullDisk(), str)])
    scrapes = Scrapes()
    scrapes.metrics = Metrics(log=sink)
    for level in ("warning", "warning", "error"):
        sink.write({"timestamp": "now", "level": level, "module": "m", "message": "x"})
    sink.close()

    assert scrapes.sample("zpmeow_log_lines_total", level="warning") == 2
    assert scrapes.sample("zpmeow_log_lines_total", level="error") == 1
    assert scrapes.sample("zpmeow_log_lines_lost_total") == 3
