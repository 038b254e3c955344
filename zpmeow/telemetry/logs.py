"""Log lines: structlog's loggers, and the standard library's (aiohttp, asyncio, asyncpg), on one way out.

    logger.info(…) ─┐
    logging.warning ┴→ timestamp → traceback (never with local variables) → redaction → sink → stdout, file

Every line has `timestamp` (RFC 3339, UTC), `level`, `module` and `message`.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger
from typing_extensions import override

from zpmeow.services.log_control import LogControl, LogLevel
from zpmeow.telemetry.line_writers import FileWriter, LineWriter, StreamWriter
from zpmeow.telemetry.log_sink import LogSink
from zpmeow.telemetry.redaction import make_redactor

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_SEVERITIES: Final[dict[str, int]] = {level.value: severity for level, severity in _LEVELS.items()}
_ANY_LEVEL: Final = structlog.make_filtering_bound_logger(logging.DEBUG)  # The level is asked for at each line.
_MAX_TEXT_CHARACTERS: Final = 16_384  # Arbitrary; a traceback has some 5,000.
_HARMLESS_TYPES: Final = frozenset({int, float, bool, type(None)})
_CONSOLE_COLUMN: Final = 60  # Where the fields begin on a terminal; most messages are shorter.
_LINE_BREAKS_KEPT: Final = {ord("\n"): "\n", ord("\t"): "\t"}
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Logs(LogControl):
    """The opened log."""

    def __init__(
        self, *, level: LogLevel, sink: LogSink, redact: Callable[[str], str], clock: Callable[[], float]
    ) -> None:
        """Write lines of this level and above; use `open_logs`."""
        self._level = level
        self._sink = sink
        self._redact = redact
        self._clock = clock
        self._bridge = _StandardLibraryBridge(logs=self)
        self._root_level = logging.root.level

    @property
    def sink(self) -> LogSink:
        """Where the lines go, and how many there were."""
        return self._sink

    @property
    def tells_debug(self) -> bool:
        """Whether debug lines are written at all, now."""
        return self._level is LogLevel.DEBUG

    @override
    def set_level(self, level: LogLevel) -> None:
        if level is self._level:
            return
        # Told where it can be read: before the log falls silent, or after it has begun to speak.
        tells_less = _LEVELS[level] > _LEVELS[self._level]
        if tells_less:
            self._tell_level(level)
        self._level = level
        if self._bridge in logging.root.handlers:
            self._set_root_level()
        if not tells_less:
            self._tell_level(level)

    def logger(self, module: str) -> FilteringBoundLogger:
        """Return a logger whose lines carry this module."""
        logger: FilteringBoundLogger = structlog.wrap_logger(
            self._sink,
            processors=[self._drop_below_level, structlog.processors.add_log_level, self._complete],
            wrapper_class=_ANY_LEVEL,
            cache_logger_on_first_use=True,
            module=module,
        ).bind()
        return logger

    def take_over_standard_library(self) -> None:
        """Send the standard library's lines this way too: warnings and worse, with debug also information."""
        logging.root.addHandler(self._bridge)
        self._set_root_level()
        logging.captureWarnings(capture=True)

    def close(self) -> None:
        """Give the standard library's lines back and close the file; safe to call twice."""
        if self._bridge in logging.root.handlers:
            logging.captureWarnings(capture=False)
            logging.root.removeHandler(self._bridge)
            logging.root.setLevel(self._root_level)
        self._sink.close()

    def _tell_level(self, level: LogLevel) -> None:
        self.logger("logs").warning("The level of this log is %s from now on", level.value)

    def _set_root_level(self) -> None:
        logging.root.setLevel(logging.INFO if self.tells_debug else max(_LEVELS[self._level], logging.WARNING))

    def _drop_below_level(self, _logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        if _SEVERITIES.get(method, logging.ERROR) < _LEVELS[self._level]:
            raise structlog.DropEvent
        return fields

    def _complete(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> tuple[tuple[EventDict], EventDict]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        entry: EventDict = {
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": fields.pop("level"),
            "module": fields.pop("module"),
            "message": self._clean(fields.pop("event")),
        }
        error = fields.pop("exc_info", None)
        for name, value in fields.items():
            entry[name] = value if type(value) in _HARMLESS_TYPES else self._clean(value)
        if isinstance(error, BaseException):
            entry["exception"] = self._clean("".join(traceback.format_exception(error)).rstrip())
        return (entry,), {}

    def _clean(self, value: object) -> str:
        text = value if isinstance(value, str) else str(value)
        if len(text) > _MAX_TEXT_CHARACTERS:
            half = _MAX_TEXT_CHARACTERS // 2
            text = f"{text[:half]}\n…\n{text[-half:]}"
        return self._redact(text)


def open_logs(
    *,
    level: str,
    log_format: str | None,
    file: Path | None,
    secrets: list[str],
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.time,
) -> Logs:
    """Open the log and take over the standard library's. Raises OSError if the file cannot be opened.

    Args:
        level: debug, info, warning or error.
        log_format: console or json; None: console if the stream is a terminal, else JSON; the file gets JSON.
        file: gets all lines too; None: no file.
        secrets: what must never be written, in clear.
        stream: None: standard output.
        clock: seconds since 1970.
    """
    out = stream or sys.stdout
    for_people = log_format == "console" or (log_format is None and out.isatty())
    writers: list[tuple[LineWriter, Callable[[EventDict], str]]] = [
        (StreamWriter(stream=out), _make_console_renderer(colors=out.isatty()) if for_people else render_json)
    ]
    if file is not None:
        plain = _make_console_renderer(colors=False)
        writers.append((FileWriter(path=file), plain if log_format == "console" else render_json))
    logs = Logs(level=LogLevel(level), sink=LogSink(writers), redact=make_redactor(secrets), clock=clock)
    logs.take_over_standard_library()
    return logs


def render_json(entry: EventDict) -> str:
    """Return the entry as one line of JSON."""
    try:
        return orjson.dumps(entry).decode()
    except orjson.JSONEncodeError:
        # Half a surrogate pair (undecodable bytes of a library's text), or an integer above 64 bits.
        speakable = {
            name: value if value is None or isinstance(value, (bool, float)) else _speakable(str(value))
            for name, value in entry.items()
        }
        return orjson.dumps(speakable).decode()


def _speakable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _make_console_renderer(*, colors: bool) -> Callable[[EventDict], str]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        event_key="message",
        pad_event_to=_CONSOLE_COLUMN,
        exception_formatter=structlog.dev.plain_traceback,
    )
    traceback_controls = _CONTROLS | _LINE_BREAKS_KEPT

    def render(entry: EventDict) -> str:
        # Texts from outside must not move the cursor or forge a line.
        harmless = {
            name: value.translate(traceback_controls if name == "exception" else _CONTROLS)
            if isinstance(value, str)
            else value
            for name, value in entry.items()
        }
        return str(renderer(None, "", harmless))

    return render


class _StandardLibraryBridge(logging.Handler):
    """Hands records of the standard library's loggers on; `module` is the logger's name."""

    def __init__(self, *, logs: Logs) -> None:
        """Hand on to these logs."""
        super().__init__()
        self._logs = logs

    @override
    def emit(self, record: logging.LogRecord) -> None:
        logger = self._logs.logger(record.name)
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  (a wrong call of a logger, anywhere; the standard library does so too)
            message = f"a log record could not be written out (line {record.lineno} of {record.filename})"
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR:
            logger.error("%s", message, exc_info=error)
        elif record.levelno >= logging.WARNING:
            logger.warning("%s", message, exc_info=error)
        else:
            logger.info("%s", message, exc_info=error)
