"""Writing lines: files that move, disks that fill up, readers that go away."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from structlog.typing import EventDict
from typing_extensions import override

from zpmeow.telemetry.line_writers import FileWriter, LineWriter, StreamWriter
from zpmeow.telemetry.log_sink import LogSink


class FakeClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Start at 0."""
        self.seconds = 0.0

    def __call__(self) -> float:
        """Return what was set."""
        return self.seconds


class FlakyWriter(LineWriter):
    """Takes lines unless it was told to fail."""

    def __init__(self) -> None:
        """Take lines."""
        self.lines: list[str] = []
        self.failure: Exception | None = None
        self.is_closed = False

    @override
    def write_line(self, line: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.lines.append(line)

    @override
    def close(self) -> None:
        self.is_closed = True


def message_of(entry: EventDict) -> str:
    """Render the message alone."""
    return str(entry["message"])


def entry(message: str) -> EventDict:
    """Make an entry."""
    return {"timestamp": "2026-01-01T00:00:00.000Z", "level": "info", "module": "m", "message": message}


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), BrokenPipeError(), ValueError("closed file")])
def test_lost_lines_are_counted_and_told_when_writing_works_again(failure: Exception) -> None:
    """A full disk stops nobody; how many lines it cost is said once."""
    writer = FlakyWriter()
    sink = LogSink([(writer, message_of)])

    writer.failure = failure
    sink.write(entry("one"))
    sink.write(entry("two"))
    assert sink.flush()
    writer.failure = None
    sink.write(entry("three"))
    sink.write(entry("four"))
    sink.close()

    assert sink.lost[()] == 2
    assert writer.lines == ["2 log lines could not be written", "three", "four"]


def test_writer_is_closed_when_it_cannot_be_written_to_at_the_end() -> None:
    """What it has opened is released all the same."""
    writer = FlakyWriter()
    writer.failure = OSError(errno.ENOSPC, "full")
    sink = LogSink([(writer, message_of)])

    sink.write(entry("one"))
    sink.close()

    assert writer.is_closed


def test_other_writers_go_on_when_one_fails() -> None:
    """A closed standard output does not keep lines out of the file."""
    broken, sound = FlakyWriter(), FlakyWriter()
    broken.failure = BrokenPipeError()
    sink = LogSink([(broken, message_of), (sound, message_of)])

    sink.write(entry("one"))
    sink.close()

    assert sound.lines == ["one"]


class HangingWriter(FlakyWriter):
    """Takes a line only when it is let go."""

    def __init__(self) -> None:
        """Hang."""
        super().__init__()
        self.is_asked = threading.Event()
        self.may_go_on = threading.Event()

    @override
    def write_line(self, line: str) -> None:
        self.is_asked.set()
        self.may_go_on.wait()
        super().write_line(line)


def test_nobody_waits_when_a_writer_hangs() -> None:
    """A disk that does not answer costs memory for 10,000 lines, then lines; the other writer goes on."""
    hanging, sound = HangingWriter(), FlakyWriter()
    sink = LogSink([(hanging, message_of), (sound, message_of)])

    sink.write(entry("first"))
    assert hanging.is_asked.wait(10)
    for number in range(10_005):
        sink.write(entry(str(number)))
        if number % 1_000 == 0:  # The sound one's queue is as long.
            wait_until(lambda: len(sound.lines) > number)  # noqa: B023  (asked at once)
    lost = sink.lost[()]
    hanging.may_go_on.set()
    assert sink.flush(10)
    sink.write(entry("last"))
    sink.close()

    assert lost == 5
    assert sound.lines == ["first", *map(str, range(10_005)), "last"]
    assert hanging.lines == ["first", *map(str, range(10_000)), "5 log lines could not be written", "last"]


def test_lost_lines_are_told_at_the_end_when_no_other_comes() -> None:
    """The last lines of a process are the ones that matter."""
    writer = HangingWriter()
    sink = LogSink([(writer, message_of)])

    sink.write(entry("first"))
    assert writer.is_asked.wait(10)
    for number in range(10_001):
        sink.write(entry(str(number)))
    writer.may_go_on.set()
    sink.close()

    assert writer.lines[-2:] == ["9999", "1 log lines could not be written"]


def test_close_does_not_wait_for_a_writer_that_hangs() -> None:
    """The process ends all the same."""
    writer = HangingWriter()
    sink = LogSink([(writer, message_of)])
    sink.write(entry("one"))
    assert writer.is_asked.wait(10)

    sink.close()

    assert writer.lines == []
    assert not sink.flush(0)
    writer.may_go_on.set()


def test_lines_after_the_end_are_counted_and_lost() -> None:
    """Nothing is raised, and nothing waits for ever in a queue."""
    writer = FlakyWriter()
    sink = LogSink([(writer, message_of)])

    sink.close()
    sink.write(entry("late"))
    sink.close()

    assert writer.lines == []
    assert sink.told["info",] == 1
    assert sink.flush()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for another thread."""
    give_up_at = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_line_is_lost_without_an_error_when_it_cannot_be_rendered() -> None:
    """A value that no one foresaw costs its line, not the request."""
    writer = FlakyWriter()

    def refuse_one(given: EventDict) -> str:
        if given["message"] == "one":
            raise ValueError
        return message_of(given)

    sink = LogSink([(writer, refuse_one)])
    sink.write(entry("one"))
    sink.write(entry("two"))
    sink.close()

    assert writer.lines == ["1 log lines could not be written", "two"]


def open_file(path: Path) -> tuple[FileWriter, FakeClock]:
    """Open a file writer with a clock of its own."""
    clock = FakeClock()
    return FileWriter(path=path, clock=clock), clock


def test_file_is_made_with_its_folder_and_appended_to(tmp_path: Path) -> None:
    """`log/app.log` needs no `mkdir`, and a restart keeps what was there."""
    path = tmp_path / "deep" / "log" / "app.log"

    for line in ("one", "two"):
        writer, _ = open_file(path)
        writer.write_line(line)
        writer.close()

    assert path.read_text(encoding="utf-8") == "one\ntwo\n"


def test_two_processes_can_share_a_file(tmp_path: Path) -> None:
    """Each line is appended whole."""
    path = tmp_path / "app.log"
    first, _ = open_file(path)
    second, _ = open_file(path)

    first.write_line("one")
    second.write_line("two")
    first.write_line("three")
    first.close()
    second.close()

    assert path.read_text(encoding="utf-8") == "one\ntwo\nthree\n"


def remove(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def move(path: Path) -> None:
    """Move the file away, as logrotate does."""
    path.rename(path.with_suffix(".1"))


def replace_by_another(path: Path) -> None:
    """Put another file in its place."""
    move(path)
    path.touch()


@pytest.mark.parametrize("rotate", [remove, move, replace_by_another])
def test_file_is_made_anew_when_it_was_moved_away(tmp_path: Path, rotate: Callable[[Path], None]) -> None:
    """After a rotation, lines go to the new file."""
    path = tmp_path / "app.log"
    writer, clock = open_file(path)
    writer.write_line("old")
    rotate(path)

    clock.seconds += 2
    writer.write_line("new")
    writer.close()

    assert path.read_text(encoding="utf-8") == "new\n"


def test_file_is_kept_when_it_cannot_be_made_anew(tmp_path: Path) -> None:
    """If the new file cannot be opened, the writer says so with an error and tries again later."""
    path = tmp_path / "log" / "app.log"
    writer, clock = open_file(path)
    path.unlink()
    path.mkdir()

    clock.seconds += 2
    with pytest.raises(IsADirectoryError):
        writer.write_line("lost")
    path.rmdir()
    clock.seconds += 2
    writer.write_line("found")
    writer.close()

    assert path.read_text(encoding="utf-8") == "found\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe: the descriptor to read from, and the stream to write to."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="ascii") as stream:
        yield reading, stream
    with contextlib.suppress(OSError):  # The test may have closed it.
        os.close(reading)


def test_stream_gets_escapes_for_what_its_encoding_lacks(pipe: tuple[int, TextIO]) -> None:
    """A terminal without UTF-8 loses no line."""
    reading, stream = pipe

    StreamWriter(stream=stream).write_line("naïve")

    assert os.read(reading, 100) == b"na\\xefve\n"


def test_full_pipe_delays_lines_and_no_caller(pipe: tuple[int, TextIO]) -> None:
    """A reader that stopped reading does not stop the service; when it reads again, it gets every line whole."""
    reading, stream = pipe
    sink = LogSink([(StreamWriter(stream=stream), message_of)])

    for _ in range(50):  # A pipe holds seven of them.
        sink.write(entry("x" * 9_999))
    is_written = sink.flush(0.1)
    found = b""
    while len(found) < 50 * 10_000:
        found += os.read(reading, 65_536)
    sink.close()

    assert not is_written
    assert found == (b"x" * 9_999 + b"\n") * 50
    assert sink.lost[()] == 0


def test_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, TextIO]) -> None:
    """Somebody who shares the terminal may have made it so."""
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    sink = LogSink([(StreamWriter(stream=stream), message_of)])

    sink.write(entry("x" * 199_999))
    found = b""
    while len(found) < 200_000:
        found += os.read(reading, 65_536)
    sink.close()

    assert found == b"x" * 199_999 + b"\n"


def test_reader_that_went_away_is_survived(pipe: tuple[int, TextIO]) -> None:
    """`zpmeow serve | head` goes on serving, and stops in order."""
    reading, stream = pipe
    sink = LogSink([(StreamWriter(stream=stream), message_of)])

    os.close(reading)
    sink.write(entry("one"))
    sink.write(entry("two"))
    sink.close()

    assert sink.lost[()] == 2
    stream.flush()  # Nothing of ours is left over for the end of the process to stumble on.


def test_line_that_was_cut_off_is_ended_before_the_next(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle of a line spoils that line alone."""
    reading, stream = pipe
    writer = StreamWriter(stream=stream)
    write = os.write
    answers: list[int | OSError] = [3, OSError(errno.ENOSPC, "full")]

    def fill_up(descriptor: int, data: bytes) -> int:
        if not answers:
            return write(descriptor, data)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return write(descriptor, bytes(data)[:answer])

    monkeypatch.setattr(os, "write", fill_up)
    with pytest.raises(OSError, match="full"):
        writer.write_line("one line")
    writer.write_line("another")

    assert os.read(reading, 100) == b"one\nanother\n"


def test_long_line_comes_whole_when_it_is_read(pipe: tuple[int, TextIO]) -> None:
    """A traceback is longer than one piece."""
    reading, stream = pipe

    StreamWriter(stream=stream).write_line("x" * 20_000)

    assert os.read(reading, 65_536) == b"x" * 20_000 + b"\n"
