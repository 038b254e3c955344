"""Writing lines: files that move, disks that fill up, readers that go away."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from structlog.typing import EventDict
from typing_extensions import override

from zpmeow.telemetry.log_sink import FileWriter, LineWriter, LogSink, StreamWriter


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

    @override
    def write_line(self, line: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.lines.append(line)

    @override
    def close(self) -> None:
        """Nothing to release."""


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
    writer.failure = None
    sink.write(entry("three"))
    sink.write(entry("four"))

    assert writer.lines == ["2 log lines could not be written", "three", "four"]


def test_other_writers_go_on_when_one_fails() -> None:
    """A closed standard output does not keep lines out of the file."""
    broken, sound = FlakyWriter(), FlakyWriter()
    broken.failure = BrokenPipeError()
    sink = LogSink([(broken, message_of), (sound, message_of)])

    sink.write(entry("one"))

    assert sound.lines == ["one"]


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


def read_all(reading: int) -> bytes:
    """Read what is in the pipe now."""
    os.set_blocking(reading, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reading, 65_536):
            found += piece
    return found


def test_full_pipe_costs_lines_and_never_waits(pipe: tuple[int, TextIO]) -> None:
    """A reader that stopped reading does not stop the service; when it reads again, it is told what it missed."""
    reading, stream = pipe
    sink = LogSink([(StreamWriter(stream=stream), message_of)])

    for _ in range(50):
        sink.write(entry("x" * 9_999))
    read_all(reading)
    sink.write(entry("again"))

    told = read_all(reading).decode().splitlines()
    assert told[-1] == "again"
    assert told[-2].endswith("log lines could not be written")


def test_reader_that_went_away_is_survived(pipe: tuple[int, TextIO]) -> None:
    """`zpmeow serve | head` goes on serving, and stops in order."""
    reading, stream = pipe
    sink = LogSink([(StreamWriter(stream=stream), message_of)])

    os.close(reading)
    sink.write(entry("one"))
    sink.write(entry("two"))

    stream.flush()  # Nothing of ours is left over for the end of the process to stumble on.


def test_long_line_comes_whole_when_it_is_read(pipe: tuple[int, TextIO]) -> None:
    """A traceback is longer than one piece."""
    reading, stream = pipe

    StreamWriter(stream=stream).write_line("x" * 20_000)

    assert os.read(reading, 65_536) == b"x" * 20_000 + b"\n"
