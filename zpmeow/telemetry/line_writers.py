"""What takes log lines: standard output, and a file if one is wanted. Each may take its time: a thread waits for it."""

import io
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TextIO

from typing_extensions import override

_ROTATION_CHECK_SECONDS = 1.0  # A line more or less in the old file does no harm.


class LineWriter(Protocol):
    """Someone who takes lines. Raises OSError or ValueError (closed) when it cannot."""

    def write_line(self, line: str) -> None:
        """Write the line, and its end."""
        ...

    def close(self) -> None:
        """Release what was opened; safe to call twice."""
        ...


class _Lines:
    """Writes lines to a descriptor, each with one system call where the system takes it whole."""

    def __init__(self) -> None:
        self._is_within_line = False

    def write(self, descriptor: int, line: bytes) -> None:
        """Write a line and its end. One that an error cut off is ended first. Raises OSError."""
        rest = memoryview(b"\n" + line if self._is_within_line else line)
        while rest:
            try:
                written = os.write(descriptor, rest)
            except BlockingIOError:  # Somebody who shares the terminal made it non-blocking.
                select.select((), (descriptor,), ())
                continue
            rest = rest[written:]
            self._is_within_line = bool(rest)


class StreamWriter(LineWriter):
    """Lines to a stream that someone else closes."""

    def __init__(self, *, stream: TextIO) -> None:
        """Write to the stream; a character that its encoding lacks is written as an escape."""
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self._descriptor = _descriptor_of(stream)
        self._lines = _Lines()

    @override
    def write_line(self, line: str) -> None:
        if self._descriptor is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        self._lines.write(self._descriptor, f"{line}\n".encode(self._encoding, "backslashreplace"))

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
        self._lines = _Lines()
        self._checked_at = clock()

    @override
    def write_line(self, line: str) -> None:
        if self._clock() - self._checked_at >= _ROTATION_CHECK_SECONDS:
            self._checked_at = self._clock()
            self._follow_rotation()
        self._lines.write(self._file.fileno(), line.encode("utf-8", "backslashreplace") + b"\n")

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
            self._lines = _Lines()
