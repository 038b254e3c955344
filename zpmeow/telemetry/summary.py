"""The numbers of `GET /metrics` as JSON for people: the same that Prometheus gets, fewer of them."""

import math
from dataclasses import dataclass

from zpmeow.events import LookupOutcome, Tier
from zpmeow.services.system_state import SystemState
from zpmeow.telemetry.tallies import Buckets, Counts


@dataclass(slots=True, frozen=True, kw_only=True)
class Numbers:
    """Counts by label values, in the order of the metric's labels; buckets by upper bound in seconds, cumulative."""

    lookups: Counts
    loads: Counts
    loads_coalesced: Counts
    invalidations: Counts
    consistency_checks: Counts
    breaker_transitions: Counts
    queries_failed: Counts
    cache_get_buckets: Buckets
    query_buckets: Buckets


def summarize(state: SystemState, numbers: Numbers) -> dict[str, object]:
    """Return the summary; plain values that any JSON encoder takes."""
    return {
        "cache": {
            "enabled": state.cache_enabled,
            "connected": state.cache_connected,
            "total_keys": state.cache_keys,
            "version": state.cache_version,
            "hit_rate": hit_ratio(numbers.lookups),
            "breaker": state.circuit,
            "mode": state.mode,
            "trusted": state.cache_trusted,
            "problem": state.cache_problem,
            "local": {
                "entries": state.local_entries,
                "bytes": state.local_bytes,
                "hit_rate": tier_hit_ratio(numbers.lookups, Tier.LOCAL),
            },
            "coherence": {
                "feed": "live" if state.feed_is_live else "silent",
                "leads_relay": state.leads_relay,
                "lag_seconds": None if state.lag_seconds is None else round(state.lag_seconds, 3),
                "lag_changes": state.lag_changes,
                "checks": _nested(numbers.consistency_checks),
            },
            "latency_ms": _latency(numbers.cache_get_buckets),
            "lookups": _by_tier_and_entity(numbers.lookups),
            "loads": _nested(numbers.loads),
            "loads_coalesced": _flat(numbers.loads_coalesced),
            "invalidations": _nested(numbers.invalidations),
            "breaker_transitions": sum(numbers.breaker_transitions.values()),
        },
        "database": {
            "connected": state.database_problem is None,
            "problem": state.database_problem,
            "pool": {
                "size": state.pool_size,
                "idle": state.pool_idle,
                "in_use": state.pool_in_use,
                "waiting": state.pool_waiting,
            },
            "queries": {
                "total": numbers.query_buckets[-1][1] if numbers.query_buckets else 0,
                "failed": _flat(numbers.queries_failed),
                "latency_ms": _latency(numbers.query_buckets),
            },
        },
    }


def hit_ratio(lookups: Counts) -> float:
    """Return the share of look-ups that a tier answered, 4 digits; 0.0 when there were none.

    A miss of the local tier is none: Redis is asked next. Bypassed, timed out, failed, corrupt and stale look-ups are
    neither hits nor misses.
    """
    hits = _count(lookups, LookupOutcome.HIT, *Tier)
    return _ratio(hits, _count(lookups, LookupOutcome.MISS, Tier.REDIS))


def tier_hit_ratio(lookups: Counts, tier: Tier) -> float:
    """Return hits / (hits + misses) of one tier, 4 digits; 0.0 when there were none."""
    return _ratio(_count(lookups, LookupOutcome.HIT, tier), _count(lookups, LookupOutcome.MISS, tier))


def _count(lookups: Counts, outcome: LookupOutcome, *tiers: Tier) -> int:
    return sum(count for (_, tier, found), count in lookups.items() if found == outcome and tier in tiers)


def _ratio(hits: int, misses: int) -> float:
    return round(hits / (hits + misses), 4) if hits + misses else 0.0


def quantile_seconds(buckets: Buckets, quantile: float) -> float | None:
    """Estimate a quantile by interpolation inside its bucket, as Prometheus does; None when all are empty.

    What lies above the last finite bound is told as that bound.
    """
    total = buckets[-1][1] if buckets else 0
    if total == 0:
        return None
    rank = quantile * total
    lower_bound, below = 0.0, 0
    for bound, cumulative in buckets:
        if cumulative >= rank and cumulative > below:
            if math.isinf(bound):
                return lower_bound
            return lower_bound + (bound - lower_bound) * (rank - below) / (cumulative - below)
        lower_bound, below = bound, cumulative
    return lower_bound


def _latency(buckets: Buckets) -> dict[str, float | None]:
    return {"p50": _milliseconds(quantile_seconds(buckets, 0.5)), "p99": _milliseconds(quantile_seconds(buckets, 0.99))}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


# Labels may be members of a StrEnum, which orjson refuses as keys: str() makes plain text of them.
def _flat(counts: Counts) -> dict[str, int]:
    return {str(label): count for (label,), count in counts.items()}


def _nested(counts: Counts) -> dict[str, dict[str, int]]:
    tree: dict[str, dict[str, int]] = {}
    for (first, second), count in counts.items():
        tree.setdefault(str(first), {})[str(second)] = count
    return tree


def _by_tier_and_entity(lookups: Counts) -> dict[str, dict[str, dict[str, int]]]:
    tree: dict[str, dict[str, dict[str, int]]] = {}
    for (entity, tier, outcome), count in lookups.items():
        tree.setdefault(str(tier), {}).setdefault(str(entity), {})[str(outcome)] = count
    return tree
