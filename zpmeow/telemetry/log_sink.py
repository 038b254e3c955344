"""Where finished log lines go. Nobody who logs waits for it.

    write ─→ a queue for each writer ─→ its thread ─→ standard output, a file

A pipe that nobody empties, a disk that hangs or is full must not end a request, nor hold one up. Lines that find the
queue full or cannot be written are lost and counted; the next line that is written is preceded by one that tells how
many.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from structlog.typing import EventDict

from zpmeow.services.log_control import LogLevel
from zpmeow.telemetry.line_writers import LineWriter
from zpmeow.telemetry.tallies import Counts

Render = Callable[[EventDict], str]

_MOST_WAITING: Final = 10_000  # Lines, some 10 MB; what a busy process logs in a second or two.
_CLOSE_SECONDS: Final = 1.0  # Arbitrary: a stop does not wait longer for who reads the log.


class LogSink:
    """Hands lines to all writers, each on its own: one that fails or hangs does not keep the others from writing."""

    def __init__(self, writers: Sequence[tuple[LineWriter, Render]]) -> None:
        """Write to these, each line made by the function beside the writer."""
        self.told = Counts((level.value,) for level in LogLevel)
        """How many entries there were, by level."""
        self.lost = Counts([()])
        """How many lines a writer could not write."""
        self._lock = threading.RLock()  # Libraries log from threads of their own.
        self._is_closed = False
        self._queues = [_Queue(writer, render, self._count_lost) for writer, render in writers]

    def write(self, entry: EventDict) -> None:
        """Have one entry written everywhere; the entry must not be changed after."""
        with self._lock:
            self.told[entry["level"],] += 1
            if not self._is_closed:
                for queue in self._queues:
                    queue.put(entry)

    # structlog calls its logger's method of the level's name.
    debug = info = warning = error = write

    def flush(self, seconds: float = _CLOSE_SECONDS) -> bool:
        """Wait until everything so far is written, or for `seconds`; tell whether it is."""
        give_up_at = time.monotonic() + seconds
        marks = [queue.mark() for queue in self._queues]
        return all(mark.wait(max(0.0, give_up_at - time.monotonic())) for mark in marks)

    def close(self) -> None:
        """Write what is there, for a second at most, and close all writers. Later lines are lost without a word."""
        give_up_at = time.monotonic() + _CLOSE_SECONDS
        with self._lock:
            self._is_closed = True
            for queue in self._queues:
                queue.end()
        for queue in self._queues:
            queue.wait_ended(max(0.0, give_up_at - time.monotonic()))

    def _count_lost(self) -> None:
        with self._lock:
            self.lost[()] += 1


@dataclass(slots=True, frozen=True)
class _Gap:
    """Stands in a queue where lines are missing that found no room."""

    lines: int


class _Queue:
    """Entries that wait for one writer, and the thread that hands them on, which alone touches the writer."""

    def __init__(self, writer: LineWriter, render: Render, count_lost: Callable[[], None]) -> None:
        """Begin."""
        self._writer = writer
        self._render = render
        self._count_lost = count_lost
        self._refused = 0  # Since there was room the last time.
        self._lost = 0  # And not told yet, of all that has come out of the queue.
        self._waiting: SimpleQueue[EventDict | _Gap | threading.Event | None] = SimpleQueue()
        # A writer that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_all, name="zpmeow-log", daemon=True)
        self._thread.start()

    def put(self, entry: EventDict) -> None:
        """Have an entry written, unless too many wait already. One thread at a time."""
        if self._waiting.qsize() >= _MOST_WAITING:
            self._refused += 1
            self._count_lost()
            return
        self._mark_gap()
        self._waiting.put(entry)

    def mark(self) -> threading.Event:
        """Return what is set when all that was put so far is written."""
        mark = threading.Event()
        self._waiting.put(mark)
        if not self._thread.is_alive():  # All has been written, and the mark will be met by nobody.
            mark.set()
        return mark

    def end(self) -> None:
        """Have the writer closed after what was put so far; safe to call twice."""
        self._mark_gap()
        self._waiting.put(None)

    def wait_ended(self, seconds: float) -> None:
        """Wait for that."""
        self._thread.join(seconds)

    def _mark_gap(self) -> None:
        if self._refused:
            self._waiting.put(_Gap(self._refused))
            self._refused = 0

    def _write_all(self) -> None:
        timestamp = ""
        while (found := self._waiting.get()) is not None:
            match found:
                case threading.Event():
                    found.set()
                case _Gap():
                    self._lost += found.lines  # Told before the next line, or at the end.
                case _:
                    timestamp = found["timestamp"]
                    self._write(found)
        # Nobody is left who could be told of a failure.
        with contextlib.suppress(Exception):
            self._tell_lost(timestamp)
        with contextlib.suppress(Exception):
            self._writer.close()
        while not self._waiting.empty():
            if isinstance(late := self._waiting.get(), threading.Event):
                late.set()

    def _write(self, entry: EventDict) -> None:
        try:
            self._tell_lost(entry["timestamp"])
            self._writer.write_line(self._render(entry))
        except Exception:  # noqa: BLE001  (whatever one line meets, the next ones must be written)
            self._lost += 1
            self._count_lost()

    def _tell_lost(self, timestamp: str) -> None:
        if not self._lost:
            return
        message = f"{self._lost} log lines could not be written"
        self._writer.write_line(
            self._render({"timestamp": timestamp, "level": "warning", "module": "logs", "message": message})
        )
        self._lost = 0
