"""Cache: what each tier finds, how fast Redis is, and whether what it says may be believed."""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.panels import HOLDS, Query, breaker, lines, quantiles, spread, timeline

_LOOKUPS = "zpmeow_cache_lookups_total"
_OPERATIONS = "zpmeow_cache_operation_duration_seconds"

CACHE = Board(
    "cache",
    "Cache",
    "What each tier finds, how fast Redis is, and whether it may be believed.",
    [
        Row(
            "Look-ups",
            [
                lines(
                    "Hit ratio by entity",
                    "Share of look-ups that found what they sought. Low for one alone: its lifetime, or evictions.",
                    "percentunit",
                    Query(
                        f'sum by (tier, entity) (rate({_LOOKUPS}{{TARGET,outcome="hit"}}[$__rate_interval]))'
                        f' / sum by (tier, entity) (rate({_LOOKUPS}{{TARGET,outcome=~"hit|miss"}}[$__rate_interval]))',
                        "{{tier}} {{entity}}",
                    ),
                ),
                lines(
                    "Look-ups by outcome",
                    "Look-ups a second. Rising timeout or error: look at Redis. bypass: the tier was not asked.",
                    "ops",
                    Query(
                        f"sum by (tier, outcome) (rate({_LOOKUPS}{{TARGET}}[$__rate_interval]))", "{{tier}} {{outcome}}"
                    ),
                    stacked=True,
                ),
                lines(
                    "Timeouts and errors",
                    "Look-ups a second that Redis did not answer. They are answered by the database.",
                    "ops",
                    Query(
                        f'sum by (outcome) (rate({_LOOKUPS}{{TARGET,outcome=~"timeout|error"}}[$__rate_interval]))',
                        "{{outcome}}",
                    ),
                ),
                lines(
                    "Corrupt entries",
                    "Entries a second that were thrown away because they were not as they had been written. Any: who"
                    " else writes into this Redis?",
                    "ops",
                    Query(
                        f'sum by (entity) (rate({_LOOKUPS}{{TARGET,outcome="corrupt"}}[$__rate_interval]))',
                        "{{entity}}",
                    ),
                ),
            ],
        ),
        Row(
            "Redis",
            [
                breaker(),
                spread(
                    "Time of a call to Redis",
                    "How the calls spread over their durations, failed ones included. A second band: Redis or the"
                    " network stops now and then.",
                    _OPERATIONS,
                ),
                lines(
                    "Time of a call by operation",
                    "The slowest of a hundred calls. Near CACHE_TIMEOUT: Redis is slow or far away.",
                    "s",
                    *quantiles(_OPERATIONS, 0.5, labels='operation="get"'),
                    *quantiles(_OPERATIONS, 0.99, by="operation"),
                ),
                lines(
                    "Steps of the breaker",
                    "Steps a second, by where they lead. Many: Redis comes and goes.",
                    "ops",
                    Query(
                        "sum by (to) (rate(zpmeow_breaker_transitions_total{TARGET}[$__rate_interval]))", "to {{to}}"
                    ),
                ),
                lines(
                    "Keys",
                    "Keys in Redis, as they were seen last. A fall: evictions or a flush.",
                    "short",
                    Query("max(zpmeow_cache_keys{TARGET})", "keys"),
                ),
            ],
        ),
        Row(
            "Loads",
            [
                lines(
                    "Reads that reached the database",
                    "Loads a second. After a fault of Redis they rise to the rate of all reads, and fall again.",
                    "ops",
                    Query("sum by (entity) (rate(zpmeow_loads_total{TARGET}[$__rate_interval]))", "{{entity}}"),
                    stacked=True,
                ),
                lines(
                    "Loads by outcome",
                    "Loads a second by how they ended. error and timeout: look at PostgreSQL.",
                    "ops",
                    Query("sum by (outcome) (rate(zpmeow_loads_total{TARGET}[$__rate_interval]))", "{{outcome}}"),
                ),
                lines(
                    "Reads that shared a load",
                    "Reads a second that waited for a load under way instead of starting their own.",
                    "ops",
                    Query(
                        "sum by (entity) (rate(zpmeow_loads_coalesced_total{TARGET}[$__rate_interval]))", "{{entity}}"
                    ),
                ),
                lines(
                    "Tier in the process",
                    "Bytes of its entries, in each process. At CACHE_LOCAL_MAX_BYTES with a low hit ratio: raise it.",
                    "bytes",
                    Query("zpmeow_cache_local_bytes{TARGET}", "{{instance}}"),
                ),
                lines(
                    "Entries in the process",
                    "Entries of the tier inside the process.",
                    "short",
                    Query("zpmeow_cache_local_entries{TARGET}", "{{instance}}"),
                ),
            ],
        ),
        Row(
            "Coherence",
            [
                timeline(
                    "What may be believed",
                    "Redis is believed while its position is young. Somewhere a process must lead the relay.",
                    HOLDS,
                    Query("zpmeow_cache_trusted{TARGET}", "Redis is believed {{instance}}"),
                    Query("zpmeow_change_feed_live{TARGET}", "changes are heard of {{instance}}"),
                    Query("zpmeow_relay_leading{TARGET}", "leads the relay {{instance}}"),
                ),
                lines(
                    "Lag of Redis",
                    "How old the position is that Redis was last seen with. Above 20 s it is hardly believed.",
                    "s",
                    Query("max by (instance) (zpmeow_coherence_lag_seconds{TARGET})", "{{instance}}"),
                ),
                lines(
                    "Changes not yet in Redis",
                    "Committed changes since that position. Rising: the relay does not get on.",
                    "short",
                    Query("max by (instance) (zpmeow_coherence_lag_changes{TARGET})", "{{instance}}"),
                ),
                lines(
                    "Changes taken over",
                    "Changes a second that the cache took over, by who brought them and how that ended.",
                    "ops",
                    Query(
                        "sum by (source, outcome) (rate(zpmeow_invalidations_total{TARGET}[$__rate_interval]))",
                        "{{source}} {{outcome}}",
                    ),
                ),
                lines(
                    "Hits held against the database",
                    "Hits a second that the inspector looked at. One that is stale or missing was an old answer.",
                    "ops",
                    Query(
                        "sum by (outcome) (rate(zpmeow_consistency_checks_total{TARGET}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                ),
                lines(
                    "All made void",
                    "How often everything cached was made void, for each interval of the graph: after a restored"
                    " backup, a promoted standby, or an empty Redis.",
                    "short",
                    Query("sum(increase(zpmeow_cache_epochs_total{TARGET}[$__rate_interval]))", "times"),
                ),
            ],
        ),
    ],
)
