"""Pictures of codes: drawn once a code, kept as long as it lives."""

import asyncio
import threading

import pytest

from zpmeow.api.pictures import PNG, SVG, TEXT, Pictures

CODE = "2@AbCdEf,GhIjKl,MnOpQr=="


class Painter:
    """Draws by writing down what was asked for; waits for the test if it must."""

    def __init__(self) -> None:
        """Draw without waiting."""
        self.drawn: list[tuple[str, str]] = []
        self.may_draw = threading.Event()
        self.may_draw.set()

    def draw(self, code: str, media_type: str) -> bytes | None:
        """Draw."""
        self.may_draw.wait(10)
        self.drawn.append((code, media_type))
        return None if code == "too long" else f"{code} {media_type}".encode()


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.time = 0.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.time


async def test_a_picture_is_drawn_once_a_code_and_kind() -> None:
    """Asked for again, it is there; another kind or code is another picture."""
    painter = Painter()
    pictures = Pictures(draw=painter.draw)

    first = await pictures.get("code", PNG, seconds=60)
    again = await pictures.get("code", PNG, seconds=60)
    await pictures.get("code", SVG, seconds=60)
    await pictures.get("other", PNG, seconds=60)

    assert first == again == b"code image/png"
    assert painter.drawn == [("code", PNG), ("code", SVG), ("other", PNG)]


async def test_a_picture_is_drawn_once_for_all_who_ask_at_once() -> None:
    """A crowd waits for one drawing, whoever of it goes away."""
    painter = Painter()
    painter.may_draw.clear()
    pictures = Pictures(draw=painter.draw)
    asked = [asyncio.create_task(pictures.get("code", PNG, seconds=60)) for _ in range(50)]
    await asyncio.sleep(0)

    asked[0].cancel()
    await asyncio.sleep(0)
    painter.may_draw.set()

    assert set(await asyncio.gather(*asked[1:])) == {b"code image/png"}
    assert len(painter.drawn) == 1


async def test_a_picture_is_forgotten_with_its_code() -> None:
    """What has expired does not lie about."""
    painter, clock = Painter(), Hands()
    pictures = Pictures(draw=painter.draw, monotonic=clock.monotonic)
    await pictures.get("code", PNG, seconds=20)

    clock.time = 19.9
    await pictures.get("code", PNG, seconds=0.1)
    clock.time = 20.1
    await pictures.get("code", PNG, seconds=20)

    assert len(painter.drawn) == 2


async def test_a_code_that_no_picture_can_hold_is_found_out_once() -> None:
    """Drawing in vain is remembered, too."""
    painter = Painter()
    pictures = Pictures(draw=painter.draw)

    assert await pictures.get("too long", PNG, seconds=60) is None
    assert await pictures.get("too long", PNG, seconds=60) is None
    assert len(painter.drawn) == 1


@pytest.mark.parametrize(("media_type", "begins"), [(PNG, b"\x89PNG"), (SVG, b"<?xml"), (TEXT, "█".encode())])
async def test_real_pictures_are_what_they_say(media_type: str, begins: bytes) -> None:
    """The library draws each kind."""
    picture = await Pictures().get(CODE, media_type, seconds=60)

    assert picture is not None
    assert picture.startswith(begins)


async def test_text_fits_a_terminal() -> None:
    """Half blocks: two rows a line, a quiet zone around, no control characters."""
    picture = await Pictures().get(CODE, TEXT, seconds=60)

    assert picture is not None
    lines = picture.decode().splitlines()
    assert {len(line) for line in lines} == {33}
    assert set(picture.decode()) == set(" ▀▄█\n")
    assert len(lines) == 17
