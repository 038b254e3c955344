"""Database: how fast PostgreSQL answers, and whether the connections suffice."""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.panels import HOLDS, Query, lines, quantiles, spread, timeline

_QUERIES = "zpmeow_db_query_duration_seconds"

DATABASE = Board(
    "database",
    "Database",
    "How fast PostgreSQL answers, and whether the connections suffice.",
    [
        Row(
            "State",
            [
                timeline(
                    "PostgreSQL answers",
                    "Red: writes fail, and reads are answered from the cache while they can be. Act now.",
                    HOLDS,
                    Query("zpmeow_db_connected{TARGET}", "{{instance}}"),
                )
            ],
        ),
        Row(
            "Queries",
            [
                lines(
                    "Queries",
                    "Queries a second by kind. `find` and `find_many` are what the cache saves.",
                    "ops",
                    Query(f"sum by (query) (rate({_QUERIES}_count{{TARGET}}[$__rate_interval]))", "{{query}}"),
                    stacked=True,
                ),
                lines(
                    "Queries that failed",
                    "Queries a second without an answer. overloaded: no connection came free in time.",
                    "ops",
                    Query(
                        "sum by (outcome) (rate(zpmeow_db_queries_failed_total{TARGET}[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                ),
                spread(
                    "Time of a query",
                    "How the queries spread over their durations, waiting for a connection included.",
                    _QUERIES,
                ),
                lines(
                    "Time of a query by kind",
                    "The slowest of a hundred, waiting for a connection included.",
                    "s",
                    *quantiles(_QUERIES, 0.99, by="query"),
                ),
            ],
        ),
        Row(
            "Connections",
            [
                lines(
                    "Connections",
                    "Connections of all processes by use, and the most that they may have. No idle one for long: raise"
                    " DB_POOL_SIZE.",
                    "short",
                    Query("sum by (state) (zpmeow_db_pool_connections{TARGET})", "{{state}}"),
                    Query("sum(zpmeow_db_pool_size{TARGET})", "most"),
                ),
                lines(
                    "Callers that wait for a connection",
                    "Above 0 for long: the database is too slow for what is asked of it.",
                    "short",
                    Query("sum by (instance) (zpmeow_db_pool_waiting{TARGET})", "{{instance}}"),
                ),
            ],
        ),
    ],
)
