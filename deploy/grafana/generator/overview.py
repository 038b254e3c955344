"""Overview: does it serve, how fast, and who answers? What one looks at first."""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.panels import HOLDS, Query, breaker, figure, lines, quantiles, timeline

USERS = 'route!~"/health.*|/metrics"'
"""Requests of users: probes and scrapes are none."""

REQUESTS = "zpmeow_http_request_duration_seconds"
READS_SAVED = (
    '1 - sum(rate(zpmeow_loads_total{TARGET,entity="session"}[$__rate_interval])) / ('
    'sum(rate(zpmeow_cache_lookups_total{TARGET,entity="session",outcome=~"hit|stale"}[$__rate_interval]))'
    ' + sum(rate(zpmeow_loads_coalesced_total{TARGET,entity="session"}[$__rate_interval]))'
    ' + sum(rate(zpmeow_loads_total{TARGET,entity="session"}[$__rate_interval])))'
)
HIT_RATIO = (
    'sum(rate(zpmeow_cache_lookups_total{TARGET,outcome="hit"}[$__rate_interval])) / ('
    'sum(rate(zpmeow_cache_lookups_total{TARGET,outcome="hit"}[$__rate_interval]))'
    ' + sum(rate(zpmeow_cache_lookups_total{TARGET,tier="redis",outcome!="hit"}[$__rate_interval])))'
)
"""Of what was sought, what a tier had. A miss in the process is none: Redis is asked next."""

FAILED_SHARE = (
    f'sum(rate({REQUESTS}_count{{TARGET,{USERS},status=~"5.."}}[$__rate_interval]))'
    f" / sum(rate({REQUESTS}_count{{TARGET,{USERS}}}[$__rate_interval]))"
)


OVERVIEW = Board(
    "overview",
    "Overview",
    "Does zpmeow serve, how fast, and who answers: the process, Redis or the database?",
    [
        Row(
            "Now",
            [
                figure(
                    "Processes",
                    "How many processes answer scrapes. Fewer than you started: see ZpmeowDown in the runbooks.",
                    "none",
                    Query("sum(up{TARGET} and on (job) group by (job) (zpmeow_build_info{TARGET}))", "processes"),
                    thresholds=[(0, "red"), (1, "green")],
                ),
                figure(
                    "Requests",
                    "Requests of users a second, probes and scrapes left out.",
                    "reqps",
                    Query(f"sum(rate({REQUESTS}_count{{TARGET,{USERS}}}[$__rate_interval]))", "requests"),
                ),
                figure(
                    "Failed",
                    "Share of requests that ended in 5xx. The objective is 0.1 % in 30 days.",
                    "percentunit",
                    Query(FAILED_SHARE, "failed"),
                    thresholds=[(0.001, "yellow"), (0.0144, "red")],
                ),
                figure(
                    "Slowest 1 %",
                    "99 of 100 requests were faster. Waits that callers asked for do not count.",
                    "s",
                    quantiles(REQUESTS, 0.99, labels=USERS)[0],
                    thresholds=[(0.05, "yellow"), (0.5, "red")],
                ),
                figure(
                    "Hit ratio",
                    "Share of look-ups that either tier answered. What Redis was not asked for is no hit.",
                    "percentunit",
                    Query(HIT_RATIO, "hits"),
                ),
                figure(
                    "Queries saved",
                    "Share of reads of sessions that did not reach the database.",
                    "percentunit",
                    Query(READS_SAVED, "saved"),
                ),
            ],
        ),
        Row(
            "State",
            [
                breaker(),
                timeline(
                    "What is in order",
                    "Each bar is green while it holds. Redis and its trust may fail without an error for users; the"
                    " database may not.",
                    HOLDS,
                    Query("zpmeow_db_connected{TARGET}", "PostgreSQL answers {{instance}}"),
                    Query("zpmeow_cache_connected{TARGET}", "Redis answers {{instance}}"),
                    Query("zpmeow_cache_trusted{TARGET}", "Redis is believed {{instance}}"),
                    Query("zpmeow_change_feed_live{TARGET}", "changes are heard of {{instance}}"),
                    Query('zpmeow_cache_mode{TARGET,mode="normal"}', "mode is normal {{instance}}"),
                ),
            ],
        ),
        Row(
            "Requests",
            [
                lines(
                    "Requests by status",
                    "Requests of users a second. 503 with a cause: the database; 500: a bug, see the log.",
                    "reqps",
                    Query(
                        f"sum by (status) (rate({REQUESTS}_count{{TARGET,{USERS}}}[$__rate_interval]))", "{{status}}"
                    ),
                    stacked=True,
                ),
                lines(
                    "Failed requests",
                    "Share of requests that ended in 5xx. The objective is 0.1 % in 30 days.",
                    "percentunit",
                    Query(FAILED_SHARE, "failed"),
                ),
                lines(
                    "Latency",
                    "Time of a request, less what it waited at its caller's wish.",
                    "s",
                    *quantiles(REQUESTS, 0.5, 0.99, 0.999, labels=USERS),
                ),
                lines(
                    "Who answers",
                    "Reads of entries a second by who answered them: the tier inside the process, Redis, the database,"
                    " or a load that another read had begun.",
                    "ops",
                    Query(
                        'sum by (tier) (rate(zpmeow_cache_lookups_total{TARGET,outcome="hit",entity!~"name|key"}'
                        "[$__rate_interval]))",
                        "{{tier}}",
                    ),
                    Query(
                        'sum(rate(zpmeow_loads_total{TARGET,entity!~"name|key",outcome!="error"}[$__rate_interval]))',
                        "database",
                    ),
                    Query(
                        'sum(rate(zpmeow_loads_coalesced_total{TARGET,entity!~"name|key"}[$__rate_interval]))',
                        "another's load",
                    ),
                    Query(
                        'sum(rate(zpmeow_cache_lookups_total{TARGET,entity!~"name|key",outcome="stale"}'
                        "[$__rate_interval]))",
                        "a tier, past its time, with the database away",
                    ),
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Cache",
            [
                lines(
                    "Hit ratio by tier",
                    "Share of look-ups that found what they sought. Low in Redis beside a high one in the process is"
                    " no fault.",
                    "percentunit",
                    Query(
                        'sum by (tier) (rate(zpmeow_cache_lookups_total{TARGET,outcome="hit"}[$__rate_interval]))'
                        ' / sum by (tier) (rate(zpmeow_cache_lookups_total{TARGET,outcome=~"hit|miss"}'
                        "[$__rate_interval]))",
                        "{{tier}}",
                    ),
                ),
                lines(
                    "Queries saved over time",
                    "Share of reads of sessions that did not reach the database. A fall to 0 means that it bears all.",
                    "percentunit",
                    Query(READS_SAVED, "saved"),
                ),
            ],
        ),
    ],
)
