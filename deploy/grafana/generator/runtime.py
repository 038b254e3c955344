"""Runtime: CPU, memory, the event loop, the garbage collector, and the log of each process."""

from deploy.grafana.generator.board import Board, Row
from deploy.grafana.generator.panels import Query, lines, listing, quantiles, spread

_DELAY = "zpmeow_event_loop_delay_seconds"

RUNTIME = Board(
    "runtime",
    "Runtime",
    "CPU, memory, the event loop, the garbage collector and the log of each process.",
    [
        Row(
            "Process",
            [
                lines(
                    "CPU",
                    "Cores in use by each process. One is all that it can use: near 1 start another.",
                    "percentunit",
                    Query("rate(process_cpu_seconds_total{TARGET}[$__rate_interval]) OURS", "{{instance}}"),
                ),
                lines(
                    "Memory",
                    "Resident memory of each process. Rising without end: a leak.",
                    "bytes",
                    Query("process_resident_memory_bytes{TARGET} OURS", "{{instance}}"),
                ),
                lines(
                    "File descriptors",
                    "Open files and connections, as a share of the most that the process may have.",
                    "percentunit",
                    Query("process_open_fds{TARGET} / process_max_fds{TARGET} OURS", "{{instance}}"),
                ),
                lines(
                    "Age",
                    "Time since each process started. A saw-tooth: something restarts it.",
                    "s",
                    Query("time() - process_start_time_seconds{TARGET} OURS", "{{instance}}"),
                ),
                listing(
                    "What runs where",
                    "Version of the service and of Python, by process.",
                    Query("zpmeow_build_info{TARGET}", "{{instance}}"),
                ),
            ],
        ),
        Row(
            "Event loop",
            [
                lines(
                    "Delay of the event loop",
                    "How late it comes to what is due. Above 10 ms: too little CPU, or something holds it up.",
                    "s",
                    *quantiles(_DELAY, 0.99, by="instance"),
                ),
                spread("Delays", "How the delays spread.", _DELAY),
            ],
        ),
        Row(
            "Python",
            [
                lines(
                    "Garbage collections",
                    "Collections a second by generation. Many of generation 2: objects are kept that should not be.",
                    "ops",
                    Query(
                        "sum by (generation) (rate(python_gc_collections_total{TARGET}[$__rate_interval]) OURS)",
                        "generation {{generation}}",
                    ),
                ),
                lines(
                    "Garbage found",
                    "Objects in circles, a second, that the collector freed or could not free.",
                    "ops",
                    Query("sum(rate(python_gc_objects_collected_total{TARGET}[$__rate_interval]) OURS)", "freed"),
                    Query(
                        "sum(rate(python_gc_objects_uncollectable_total{TARGET}[$__rate_interval]) OURS)", "not freed"
                    ),
                ),
            ],
        ),
        Row(
            "Log",
            [
                lines(
                    "Lines by level",
                    "Lines a second. Any error: read it.",
                    "ops",
                    Query("sum by (level) (rate(zpmeow_log_lines_total{TARGET}[$__rate_interval]))", "{{level}}"),
                    stacked=True,
                ),
                lines(
                    "Lines lost",
                    "Lines a second that could not be written: the disk is full, or who reads the log does not.",
                    "ops",
                    Query(
                        "sum by (instance) (rate(zpmeow_log_lines_lost_total{TARGET}[$__rate_interval]))",
                        "{{instance}}",
                    ),
                ),
                lines(
                    "Bugs met",
                    "Requests and background tasks a second that ended in something nobody foresaw.",
                    "ops",
                    Query("sum by (where) (rate(zpmeow_crashes_total{TARGET}[$__rate_interval]))", "{{where}}"),
                ),
            ],
        ),
    ],
)
