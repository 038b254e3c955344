"""Events as log lines: which have one, at which level, and which never do."""

import io
from collections.abc import Callable, Iterator

import orjson
import pytest

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
from zpmeow.telemetry.log_observer import LogObserver
from zpmeow.telemetry.logs import Logs, open_logs

Tell = Callable[..., list[dict[str, object]]]


@pytest.fixture
def tell() -> Iterator[Tell]:
    """Hand events to an observer and return the lines that come of them."""
    opened: list[Logs] = []

    def run(*events: Event, level: str = "info", tells_requests: bool = True) -> list[dict[str, object]]:
        out = io.StringIO()
        logs = open_logs(level=level, log_format="json", file=None, secrets=[], stream=out, clock=lambda: 0.0)
        opened.append(logs)
        observer = LogObserver(logs=logs, tells_requests=tells_requests)
        for event in events:
            observer(event)
        assert logs.sink.flush()
        return [orjson.loads(line) for line in out.getvalue().splitlines()]

    yield run
    for logs in opened:
        logs.close()


@pytest.mark.parametrize(
    ("from_cache", "message"),
    [
        (True, "Cache HIT for session test-session"),
        (False, "Cache MISS for session test-session, fetching from database"),
    ],
)
def test_session_read_is_the_contracts_line_at_debug(tell: Tell, from_cache: bool, message: str) -> None:  # noqa: FBT001  (a table's column)
    """The lines that the original's manual test looks for."""
    (line,) = tell(SessionRead("test-session", from_cache=from_cache), level="debug")

    assert (line["message"], line["module"], line["level"]) == (message, "cached-repo", "debug")


class Unspeakable(str):
    """A name that must not be looked at."""

    __slots__ = ()

    def __str__(self) -> str:
        """Refuse."""
        raise AssertionError

    def __format__(self, _spec: str) -> str:
        """Refuse."""
        raise AssertionError


def test_session_read_costs_no_formatting_when_the_level_is_above_debug(tell: Tell) -> None:
    """At info, nobody looks at the name."""
    assert tell(SessionRead(Unspeakable("x"), from_cache=True)) == []


WITHOUT_A_LINE: list[Event] = [
    *(CacheLookedUp("session", Tier.REDIS, outcome) for outcome in LookupOutcome),
    CacheOperated("redis", "get", 0.05),
    LoadFinished("session", LoadOutcome.ERROR),
    LoadCoalesced("session"),
    InvalidationSent("write", "failed"),
    QueryFinished("find", "timeout", 5.0),
    RequestStarted(),
    WaitBegun(),
    WaitEnded(),
    LoopChecked(0.1),
]


def test_event_has_no_line_when_it_is_ignored() -> None:
    """What the observer is not even called for is held against the lines below."""
    assert LogObserver.ignores <= {type(event) for event in WITHOUT_A_LINE}


@pytest.mark.parametrize("event", WITHOUT_A_LINE)
def test_event_has_no_line_even_at_debug(tell: Tell, event: Event) -> None:
    """Failed cache calls and queries are numbers, never lines."""
    assert tell(event, level="debug") == []


def test_request_is_one_line_with_its_facts(tell: Tell) -> None:
    """One line a request, by route template."""
    (line,) = tell(RequestFinished("id-1", "GET", "/sessions/{sessionId}/info", 200, 0.0012345, "zpmeow-redis; hit"))

    assert line == {
        "timestamp": "1970-01-01T00:00:00.000Z",
        "level": "info",
        "module": "http",
        "message": "GET /sessions/{sessionId}/info 200",
        "request_id": "id-1",
        "method": "GET",
        "route": "/sessions/{sessionId}/info",
        "status": 200,
        "duration_ms": 1.234,
        "waited_ms": 0.0,
        "cache_status": "zpmeow-redis; hit",
    }


def test_requests_are_not_told_when_switched_off(tell: Tell) -> None:
    """LOG_REQUESTS=false keeps the log to changes of state."""
    assert tell(RequestFinished("id", "GET", "/x", 200, 0.1, None), tells_requests=False) == []


@pytest.mark.parametrize(
    ("previous", "current", "level"),
    [("closed", "open", "warning"), ("open", "half_open", "info"), ("half_open", "closed", "info")],
)
def test_breaker_transition_is_one_line(tell: Tell, previous: str, current: str, level: str) -> None:
    """Each step of the breaker is told once, with its reason; opening is a warning."""
    (line,) = tell(CircuitChanged(previous, current, "5 failures in a row"))

    assert line["level"] == level
    assert all(word in str(line["message"]) for word in (previous, current, "5 failures in a row"))
    assert "cache" in str(line["module"])


def test_mode_change_is_one_line(tell: Tell) -> None:
    """An operator's choice is told when it reaches this process."""
    lines = tell(CacheModeChanged("bypass"), CacheModeChanged("normal"))

    assert [line["message"] for line in lines] == ["Cache mode is bypass", "Cache mode is normal"]


def test_database_is_told_when_it_goes_and_when_it_comes(tell: Tell) -> None:
    """The loss is an error with its reason, the return is information."""
    gone, back = tell(DatabaseReachabilityChanged("connection refused"), DatabaseReachabilityChanged(None))

    assert (gone["level"], back["level"]) == ("error", "info")
    assert "connection refused" in str(gone["message"])


@pytest.mark.parametrize(
    ("event", "level", "words"),
    [
        (FeedChanged(live=True), "info", "open"),
        (FeedChanged(live=False, reason="killed"), "warning", "killed"),
        (LeadChanged(leads=True), "info", "brings"),
        (LeadChanged(leads=False, reason="timeout"), "info", "timeout"),
        (EpochBegun("Redis has no position"), "warning", "Redis has no position"),
        (TrustChanged(None), "info", "believed"),
        (TrustChanged("behind"), "info", "behind"),
    ],
)
def test_change_of_coherence_is_one_line(tell: Tell, event: Event, level: str, words: str) -> None:
    """Each change of what is believed is told once, with its reason."""
    (line,) = tell(event)

    assert (line["level"], line["module"]) == (level, "coherence")
    assert words in str(line["message"])


def test_old_answer_is_an_error_with_both_versions(tell: Tell) -> None:
    """What the inspector finds is told so that it can be looked into; a match is not told."""
    (line,) = tell(
        ConsistencyChecked("status", "match", "zpmeow:{1}:status", 7, 7),
        ConsistencyChecked("status", "stale", "zpmeow:{1}:status", 6, 7),
    )

    assert line["level"] == "error"
    assert (line["outcome"], line["key"]) == ("stale", "zpmeow:{1}:status")
    assert (line["cached_version"], line["true_version"]) == (6, 7)


def test_corrupt_entry_is_told_once_a_key(tell: Tell) -> None:
    """The same key again is a number; another key is another line."""
    lines = tell(
        CorruptEntryFound("zpmeow:{1}:qr", "checksum"),
        CorruptEntryFound("zpmeow:{1}:qr", "size"),
        CorruptEntryFound("zpmeow:{2}:qr", "size"),
    )

    assert [(line["key"], line["reason"], line["level"]) for line in lines] == [
        ("zpmeow:{1}:qr", "checksum", "warning"),
        ("zpmeow:{2}:qr", "size", "warning"),
    ]


def test_corrupt_keys_are_forgotten_when_there_are_too_many(tell: Tell) -> None:
    """The memory of keys is bounded: after 10,000 others, a key is told again; the newest are remembered."""
    keys = [f"key-{number}" for number in range(10_001)]

    lines = tell(*(CorruptEntryFound(key, "size") for key in [*keys, keys[-1], keys[0]]))

    assert [line["key"] for line in lines] == [*keys, keys[0]]


def test_crashed_request_is_told_once_with_its_traceback(tell: Tell) -> None:
    """A bug leaves its traceback and the request's id."""
    with pytest.raises(ZeroDivisionError) as caught:
        divmod(1, 0)

    (line,) = tell(RequestCrashed("id-1", "GET", "/x", caught.value))

    assert (line["level"], line["request_id"], line["message"]) == ("error", "id-1", "GET /x crashed")
    assert "ZeroDivisionError" in str(line["exception"])


def test_crashed_background_task_is_told_with_its_name(tell: Tell) -> None:
    """Whoever reads the log learns which task it was."""
    (line,) = tell(BackgroundTaskCrashed("probe", ValueError("x")))

    assert "probe" in str(line["message"])
    assert "ValueError: x" in str(line["exception"])
