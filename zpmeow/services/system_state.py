"""What the service is made of and how each part is, at one moment: for `/metrics` and `/cache/stats`."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True, kw_only=True)
class SystemState:
    """One moment's state. `cache_trusted`: reads may be answered from Redis now.

    `cache_keys` and `cache_version` are None while Redis does not answer. `circuit` is the breaker's
    state (closed, open, half_open), `mode` the operator's choice (normal, bypass). The problems say in
    a few words what is wrong, None if nothing is. The pool numbers are database connections; waiting
    are callers. `lag_…`, `local_…` and `leads_relay` as in `CacheFacts`.
    """

    cache_enabled: bool
    cache_connected: bool
    cache_keys: int | None
    cache_version: str | None
    circuit: str
    mode: str
    cache_trusted: bool
    cache_problem: str | None
    database_problem: str | None
    lag_seconds: float | None
    lag_changes: int
    feed_is_live: bool
    leads_relay: bool
    local_entries: int
    local_bytes: int
    pool_size: int
    pool_idle: int
    pool_in_use: int
    pool_waiting: int
