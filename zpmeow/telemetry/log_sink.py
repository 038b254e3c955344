"""Where finished log lines go. Nobody who logs waits for it.

    write ─→ a queue for each writer ─→ its thread ─→ standard output, a file

A pipe that nobody empties, a disk that hangs or is full must not end a request, nor hold one up. Lines that find the
queue full or cannot be written are lost and counted; the next line that is written is preceded by one that tells how
many.
"""

import threading
import time
from collections.abc import Callable, Sequence
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
        self._queues = [_Queue(writer, render, self._lock, self.lost) for writer, render in writers]

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
        with self._lock:
            self._is_closed = True
        give_up_at = time.monotonic() + _CLOSE_SECONDS
        for queue in self._queues:
            queue.end()
        for queue in self._queues:
            queue.wait_ended(max(0.0, give_up_at - time.monotonic()))


class _Queue:
    """Entries that wait for one writer, and the thread that hands them on, which alone touches the writer."""

    def __init__(self, writer: LineWriter, render: Render, lock: threading.RLock, lost: Counts) -> None:
        """Begin; `lost` is counted under the lock, which whoever puts an entry holds."""
        self._writer = writer
        self._render = render
        self._lock = lock
        self._lost_by_all = lost
        self._lost = 0  # And not told yet.
        self._waiting: SimpleQueue[EventDict | threading.Event | None] = SimpleQueue()
        # A writer that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_all, name="zpmeow-log", daemon=True)
        self._thread.start()

    def put(self, entry: EventDict) -> None:
        """Have an entry written, unless too many wait already."""
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(entry)
        else:
            self._lose_one()

    def mark(self) -> threading.Event:
        """Return what is set when all that was put so far is written."""
        mark = threading.Event()
        self._waiting.put(mark)
        if not self._thread.is_alive():  # All has been written, and the mark will be met by nobody.
            mark.set()
        return mark

    def end(self) -> None:
        """Have the writer closed after what was put so far; safe to call twice."""
        self._waiting.put(None)

    def wait_ended(self, seconds: float) -> None:
        """Wait for that."""
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while (found := self._waiting.get()) is not None:
            if isinstance(found, threading.Event):
                found.set()
            else:
                self._write(found)
        self._writer.close()

    def _write(self, entry: EventDict) -> None:
        try:
            if self._lost:
                self._tell_loss(entry["timestamp"])
            self._writer.write_line(self._render(entry))
        except Exception:  # noqa: BLE001  (whatever one line meets, the next ones must be written)
            with self._lock:
                self._lose_one()

    def _tell_loss(self, timestamp: str) -> None:
        lost = self._lost
        message = f"{lost} log lines could not be written"
        self._writer.write_line(
            self._render({"timestamp": timestamp, "level": "warning", "module": "logs", "message": message})
        )
        with self._lock:
            self._lost -= lost

    def _lose_one(self) -> None:
        self._lost += 1
        self._lost_by_all[()] += 1
