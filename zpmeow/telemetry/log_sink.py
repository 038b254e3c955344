"""Where finished log lines go: standard output, and a file if one is wanted.

Writing never raises: a full disk or a reader that went away must not end a request. Lines that could not
be written are counted, and the first line that can be is preceded by one that tells how many were lost.
"""

import io
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from structlog.typing import EventDict
from typing_extensions import override

from zpmeow.services.log_control import LogLevel
from zpmeow.telemetry.tallies import Counts

Render = Callable[[EventDict], str]

_ROTATION_CHECK_SECONDS = 1.0  # A line more or less in the old file does no harm.


class LineWriter(Protocol):
    """Someone who takes lines. Raises OSError or ValueError (closed) when it cannot."""

    def write_line(self, line: str) -> None:
        """Write the line, and its end."""
        ...

    def close(self) -> None:
        """Release what was opened; safe to call twice."""
        ...


class StreamWriter(LineWriter):
    """Lines to a stream that someone else closes, and that is never waited for.

    A pipe that nobody empties (a stopped pager, a parent that does not read) would otherwise stop the event
    loop with the first line that does not fit: such lines are lost, and counted like all lost lines.
    """

    def __init__(self, *, stream: TextIO) -> None:
        """Write to the stream; a character that its encoding lacks is written as an escape."""
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._descriptor = _descriptor_of(stream)
        self._poll = select.poll()
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)
        self._is_within_line = False

    @override
    def write_line(self, line: str) -> None:
        if self._descriptor is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        # A line that was cut off by a full pipe is ended first.
        text = f"\n{line}\n" if self._is_within_line else f"{line}\n"
        data = memoryview(text.encode(self._encoding, "backslashreplace"))
        while data:
            # Room, where poll tells of it, is room for a piece of this size (POSIX, pipe(7)).
            if not self._poll.poll(0):
                raise BlockingIOError
            data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
            self._is_within_line = bool(data)

    @override
    def close(self) -> None:
        """Leave the stream open: it is not ours."""


def _descriptor_of(stream: TextIO) -> int | None:
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError):
        return None  # A stream in memory: it has room always.


class FileWriter(LineWriter):
    """Lines to a file, appended with one system call each, so that several processes can share it.

    A file that was moved or removed (logrotate) is made anew within a second.
    """

    def __init__(self, *, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file, its folder made if missing. Raises OSError."""
        self._path = path.absolute()  # The working directory may change.
        self._clock = clock
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        self._checked_at = clock()

    @override
    def write_line(self, line: str) -> None:
        if self._clock() - self._checked_at >= _ROTATION_CHECK_SECONDS:
            self._checked_at = self._clock()
            self._follow_rotation()
        self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")

    @override
    def close(self) -> None:
        self._file.close()

    def _open(self) -> io.FileIO:
        return self._path.open("ab", buffering=0)

    def _follow_rotation(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        here = os.fstat(self._file.fileno())
        if found is None or (found.st_dev, found.st_ino) != (here.st_dev, here.st_ino):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._open()
            self._file.close()
            self._file = fresh


class LogSink:
    """Writes lines to all writers, each on its own: one that fails does not keep the others from writing."""

    def __init__(self, writers: Sequence[tuple[LineWriter, Render]]) -> None:
        """Write to these, each line made by the function beside the writer."""
        self.told = Counts((level.value,) for level in LogLevel)
        """How many entries there were, by level."""
        self.lost = Counts([()])
        """How many lines a writer could not write."""
        self._targets = [_Target(writer, render, self.lost) for writer, render in writers]
        self._lock = threading.Lock()  # Libraries log from threads of their own.

    def write(self, entry: EventDict) -> None:
        """Write one entry everywhere; never raises for what the outside does."""
        with self._lock:
            self.told[entry["level"],] += 1
            for target in self._targets:
                target.write(entry)

    # structlog calls its logger's method of the level's name.
    debug = info = warning = error = write

    def close(self) -> None:
        """Close all writers; later lines are lost without a word."""
        with self._lock:
            for target in self._targets:
                target.writer.close()


class _Target:
    def __init__(self, writer: LineWriter, render: Render, lost: Counts) -> None:
        self.writer = writer
        self._render = render
        self._lost = 0
        self._lost_by_all = lost

    def write(self, entry: EventDict) -> None:
        try:
            if self._lost:
                self.writer.write_line(self._render(self._loss(entry["timestamp"])))
                self._lost = 0
            self.writer.write_line(self._render(entry))
        except (OSError, ValueError):
            self._lost += 1  # Told with the next line that can be written.
            self._lost_by_all[()] += 1

    def _loss(self, timestamp: str) -> EventDict:
        message = f"{self._lost} log lines could not be written"
        return {"timestamp": timestamp, "level": "warning", "module": "logs", "message": message}
