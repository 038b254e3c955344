"""The log: fields, levels, formats, tracebacks, the standard library's lines, secrets."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from typing_extensions import override

from zpmeow.services.log_control import LogLevel
from zpmeow.telemetry.logs import Logs, open_logs, render_json

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


class Output(io.StringIO):
    """A stream in memory that is read when all lines have been written."""

    logs: Logs | None = None

    @override
    def getvalue(self) -> str:
        assert self.logs is not None
        assert self.logs.sink.flush()
        return super().getvalue()


class Terminal(Output):
    """A stream with a person before it."""

    @override
    def isatty(self) -> bool:
        return True


OpenLogs = Callable[..., tuple[Logs, Output]]


@pytest.fixture
def open_log() -> Iterator[OpenLogs]:
    """Open logs on streams in memory; closed after the test."""
    opened: list[Logs] = []

    def make(
        *,
        level: str = "info",
        log_format: str | None = None,
        file: Path | None = None,
        stream: Output | None = None,
        secrets: tuple[str, ...] = (),
    ) -> tuple[Logs, Output]:
        out = stream or Output()
        logs = open_logs(
            level=level, log_format=log_format, file=file, secrets=list(secrets), stream=out, clock=lambda: NOON
        )
        out.logs = logs
        opened.append(logs)
        return logs, out

    yield make
    for logs in opened:
        logs.close()


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    """Read JSON lines."""
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_line_has_time_level_module_and_message(open_log: OpenLogs) -> None:
    """The four fields that every line has, and then its own."""
    logs, out = open_log()

    logs.logger("here").info("said %s", "this", number=1, nothing=None, ratio=0.5, truth=True)

    assert lines_of(out) == [
        {
            "timestamp": "2026-01-01T12:00:00.000Z",
            "level": "info",
            "module": "here",
            "message": "said this",
            "number": 1,
            "nothing": None,
            "ratio": 0.5,
            "truth": True,
        }
    ]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_written(open_log: OpenLogs, level: str, expected: list[str]) -> None:
    """LOG_LEVEL is the least severe level that is written."""
    logs, out = open_log(level=level)
    logger = logs.logger("m")

    for tell in (logger.debug, logger.info, logger.warning, logger.error):
        tell("x")

    assert [line["level"] for line in lines_of(out)] == expected


def test_level_can_be_changed_while_loggers_are_in_use(open_log: OpenLogs) -> None:
    """Loggers that were made before go by it, too, and so do the standard library's; the change itself is told."""
    logs, out = open_log(level="warning")
    logger = logs.logger("m")
    logger.info("before")
    logging.getLogger("library").info("before")

    logs.set_level(LogLevel.DEBUG)
    logger.debug("between")
    logging.getLogger("library").info("between")
    assert logs.tells_debug
    logs.set_level(LogLevel.ERROR)
    logger.warning("after")
    logging.getLogger("library").warning("after")
    logs.set_level(LogLevel.ERROR)

    assert [(line["level"], line["message"]) for line in lines_of(out)] == [
        ("warning", "The level of this log is debug from now on"),
        ("debug", "between"),
        ("info", "between"),
        ("warning", "The level of this log is error from now on"),
    ]


def test_format_is_console_when_a_person_reads(open_log: OpenLogs) -> None:
    """On a terminal, lines are for people."""
    logs, out = open_log(stream=Terminal())

    logs.logger("m").info("hello", number=1)

    assert "hello" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_format_is_as_wanted_when_set(open_log: OpenLogs) -> None:
    """LOG_FORMAT wins over the guess, and console lines on no terminal have no colours."""
    logs, out = open_log(log_format="json", stream=Terminal())
    logs.logger("m").info("hello")
    plain_logs, plain = open_log(log_format="console")
    plain_logs.logger("m").info("hello")

    assert lines_of(out)[0]["message"] == "hello"
    assert plain.getvalue().startswith("2026-01-01T12:00:00.000Z [info     ] hello")
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize("log_format", [None, "json", "console"])
def test_file_gets_all_lines_too(open_log: OpenLogs, tmp_path: Path, log_format: str | None) -> None:
    """`tail -f log/app.log | grep cache` shows the cache's lines, whatever the format."""
    path = tmp_path / "log" / "app.log"
    logs, out = open_log(level="debug", log_format=log_format, file=path)

    logs.logger("cached-repo").debug("Cache HIT for session test-session")

    assert logs.sink.flush()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert "Cache HIT for session test-session" in line
    assert "cached-repo" in line
    assert "Cache HIT for session test-session" in out.getvalue()


def test_file_that_cannot_be_opened_is_an_error_at_the_start(open_log: OpenLogs, tmp_path: Path) -> None:
    """A wrong LOG_FILE is found before anything runs."""
    with pytest.raises(IsADirectoryError):
        open_log(file=tmp_path)

    assert not any("Bridge" in type(handler).__name__ for handler in logging.root.handlers)


def crash(api_key: str) -> None:
    """Raise with a secret in a local variable."""
    message = "no such thing"
    raise LookupError(message if api_key else "")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traceback_has_no_local_variables(open_log: OpenLogs, log_format: str) -> None:
    """A traceback tells the way, not what was carried on it."""
    logs, out = open_log(log_format=log_format)
    secret = "very-" + "secret"
    try:
        crash(secret)
    except LookupError as error:
        logs.logger("m").error("crashed", exc_info=error)

    assert "LookupError: no such thing" in out.getvalue()
    assert "in crash" in out.getvalue()
    assert "very-secret" not in out.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_in_messages_fields_and_tracebacks(open_log: OpenLogs, log_format: str) -> None:
    """The second net covers the whole line."""
    logs, out = open_log(log_format=log_format, secrets=("hunter2-hunter2",))
    key = "zpm_" + "a1" * 19
    text = f"{key} socks5://u:pw-pw@p 5511@s.whatsapp.net hunter2-hunter2"

    logs.logger("m").error(text, field=text, other=[text], exc_info=ValueError(text))

    assert out.getvalue().count("zpm_***") == 4
    for secret in (key, "pw-pw", "5511@", "hunter2"):
        assert secret not in out.getvalue()


def test_standard_librarys_warnings_come_the_same_way(open_log: OpenLogs) -> None:
    """Libraries' lines look like ours, with their tracebacks, and their secrets masked."""
    _, out = open_log()
    try:
        crash("key")
    except LookupError:
        logging.getLogger("aiohttp.server").exception("Error on %s", "socks5://u:pw-pw@p")
    logging.getLogger("asyncio").warning("slow")
    logging.getLogger("chatty").info("not told")

    first, second = lines_of(out)
    assert (first["module"], first["level"], first["message"]) == (
        "aiohttp.server",
        "error",
        "Error on socks5://u:***@p",
    )
    assert str(first["exception"]).endswith("LookupError: no such thing")
    assert (second["module"], second["level"], second["message"]) == ("asyncio", "warning", "slow")


def test_standard_librarys_information_is_told_at_debug(open_log: OpenLogs) -> None:
    """Whoever asks for everything gets the libraries' information, but not their debugging."""
    _, out = open_log(level="debug")

    logging.getLogger("chatty").info("told")
    logging.getLogger("chatty").debug("not told")

    assert [line["message"] for line in lines_of(out)] == ["told"]


def hand_on(message: str, *arguments: object) -> None:
    """Hand a record to the log's own handler alone: pytest's refuses malformed ones."""
    (bridge,) = (handler for handler in logging.root.handlers if type(handler).__module__ == Logs.__module__)
    bridge.handle(logging.LogRecord("library", logging.WARNING, "file.py", 7, message, arguments, None))


def test_standard_librarys_malformed_record_is_a_line(open_log: OpenLogs) -> None:
    """A wrong call of a logger somewhere raises nothing and prints nothing elsewhere."""
    _, out = open_log()

    hand_on("%d", "x")

    assert lines_of(out)[0]["message"] == "a log record could not be written out (line 7 of file.py)"


def test_percent_signs_of_libraries_are_left_alone(open_log: OpenLogs) -> None:
    """A finished message is not formatted again."""
    _, out = open_log()

    hand_on("100%% of %s", "%s")

    assert lines_of(out)[0]["message"] == "100% of %s"


def test_python_warnings_are_lines_while_open(open_log: OpenLogs) -> None:
    """A deprecation is a line, and after closing things are as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        logs, out = open_log()
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logs.close()
        after = warnings.showwarning

    assert lines_of(out)[0]["module"] == "py.warnings"
    assert after is before


def test_closing_gives_the_standard_library_back(open_log: OpenLogs) -> None:
    """After closing, twice even, no handler and no level is left behind."""
    handlers, level = list(logging.root.handlers), logging.root.level
    logs, _ = open_log(level="error")

    logs.close()
    logs.close()

    assert (logging.root.handlers, logging.root.level) == (handlers, level)


def test_console_line_cannot_be_forged(open_log: OpenLogs) -> None:
    """Line breaks and escape sequences from outside are shown, not obeyed."""
    logs, out = open_log(log_format="console")

    logs.logger("m").warning("a\n2026 [error] forged\x1b[2J", field="b\r\nc\x9b")

    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()


def test_json_line_is_one_line_whatever_it_holds(open_log: OpenLogs) -> None:
    """Line breaks, halves of characters and numbers without end fit into one line of JSON."""
    logs, out = open_log()

    logs.logger("m").warning("a\nb\udcff", field=2**70)

    (line,) = lines_of(out)
    assert line["message"] == "a\nb\\udcff"
    assert line["field"] == str(2**70)


def test_long_text_is_cut_in_the_middle(open_log: OpenLogs) -> None:
    """A library that logs a megabyte does not fill the disk."""
    logs, out = open_log()

    logs.logger("m").warning("start" + "x" * 1_000_000 + "end")

    message = str(lines_of(out)[0]["message"])
    assert message.startswith("start")
    assert message.endswith("end")
    assert len(message) < 20_000


def test_json_keeps_kinds() -> None:
    """Numbers stay numbers."""
    assert orjson.loads(render_json({"a": 1, "b": 1.5, "c": None, "d": True})) == {
        "a": 1,
        "b": 1.5,
        "c": None,
        "d": True,
    }
