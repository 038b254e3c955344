"""HTTP: what is asked for, how it ends, and how long it takes, by route."""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.overview import REQUESTS, USERS
from deploy.grafana.generator.panels import Query, lines, quantiles, spread

HTTP = Board(
    "http",
    "HTTP",
    "What is asked for, how it ends, and how long it takes, by route.",
    [
        Row(
            "Requests",
            [
                lines(
                    "Requests by route",
                    "Requests a second, probes and scrapes included. `unmatched`: nothing lives where they went.",
                    "reqps",
                    Query(
                        f"sum by (method, route) (rate({REQUESTS}_count{{TARGET}}[$__rate_interval])) > 0",
                        "{{method}} {{route}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Under way",
                    "Requests being answered, and those that wait for news at their callers' wish.",
                    "short",
                    Query("sum(zpmeow_http_requests_in_flight{TARGET})", "being answered"),
                    Query("sum(zpmeow_http_requests_waiting{TARGET})", "waiting for news"),
                ),
            ],
        ),
        Row(
            "Outcome",
            [
                lines(
                    "Failed by route",
                    "5xx a second. The log has a line for each with the request's id.",
                    "reqps",
                    Query(
                        f'sum by (route, status) (rate({REQUESTS}_count{{TARGET,status=~"5.."}}'
                        "[$__rate_interval])) > 0",
                        "{{status}} {{route}}",
                    ),
                ),
                lines(
                    "Refused by status",
                    "4xx a second. 401 and 403: a key that is wrong; 499: the caller hung up.",
                    "reqps",
                    Query(
                        f'sum by (status) (rate({REQUESTS}_count{{TARGET,status=~"4.."}}[$__rate_interval]))',
                        "{{status}}",
                    ),
                ),
            ],
        ),
        Row(
            "Latency",
            [
                spread(
                    "Time of a request",
                    "How the requests of users spread over their durations.",
                    REQUESTS,
                    USERS,
                ),
                lines(
                    "Slowest 1 % by route",
                    "99 of 100 requests to the route were faster.",
                    "s",
                    *quantiles(REQUESTS, 0.99, by="route", labels=USERS),
                ),
            ],
        ),
    ],
)
