"""Engines: do they listen, take their commands, and report in time?"""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.overview import REQUESTS
from deploy.grafana.generator.panels import Query, lines, quantiles

ENGINES = Board(
    "engines",
    "Engines",
    "Do engines listen, take their commands, and report in time?",
    [
        Row(
            "Commands",
            [
                lines(
                    "Commands by outcome",
                    "Commands a second. Rising redelivered: engines die, or take longer than the 30 s of their lease.",
                    "ops",
                    Query(
                        "sum by (outcome) (rate(zpmeow_engine_commands_total{TARGET}[$__rate_interval]))", "{{outcome}}"
                    ),
                ),
                lines(
                    "Commands delivered by action",
                    "Commands a second that engines got.",
                    "ops",
                    Query(
                        'sum by (action) (rate(zpmeow_engine_commands_total{TARGET,outcome=~"delivered|redelivered"}'
                        "[$__rate_interval]))",
                        "{{action}}",
                    ),
                ),
                lines(
                    "Requests that wait for news",
                    "Engines that wait for commands, and users that wait for a code. 0 everywhere: no engine listens.",
                    "short",
                    Query("sum by (instance) (zpmeow_http_requests_waiting{TARGET})", "{{instance}}"),
                ),
                lines(
                    "Requests of engines",
                    "Requests a second to the engine's side of the interface.",
                    "reqps",
                    Query(
                        f'sum by (route) (rate({REQUESTS}_count{{TARGET,route=~"/engine/.*"}}[$__rate_interval]))',
                        "{{route}}",
                    ),
                ),
            ],
        ),
        Row(
            "Reports",
            [
                lines(
                    "Promises broken",
                    "Sessions a second whose engine fell silent before the end that it had promised. Many at once: an"
                    " engine died.",
                    "ops",
                    Query("sum(rate(zpmeow_engine_silences_total{TARGET}[$__rate_interval]))", "silent"),
                ),
                lines(
                    "Reports",
                    "What engines wrote a second: statuses, codes, credentials.",
                    "reqps",
                    Query(
                        f'sum by (route) (rate({REQUESTS}_count{{TARGET,method="PUT",route=~"/sessions/.*"}}'
                        "[$__rate_interval]))",
                        "{{route}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Time of a report",
                    "The slowest of a hundred writes.",
                    "s",
                    *quantiles(REQUESTS, 0.99, by="route", labels='method="PUT",route=~"/sessions/.*"'),
                ),
            ],
        ),
    ],
)
