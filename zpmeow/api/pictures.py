"""QR codes as pictures, and as text for terminals: drawn once a code, beside the event loop.

Drawing one takes some 20 ms of pure Python. Whoever asks for a picture that is being drawn waits for that one; what was
drawn is kept as long as its code lives, in bounded memory.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from io import BytesIO, StringIO
from typing import Final, NamedTuple

import segno
from cachetools import TLRUCache

PNG: Final = "image/png"
SVG: Final = "image/svg+xml"
TEXT: Final = "text/plain"
PICTURES: Final = (PNG, SVG, TEXT)
CONTENT_TYPES: Final = {TEXT: "text/plain; charset=utf-8"}

_KEPT_BYTES = 4 * 1024 * 1024  # Some 2,000 pictures.
_ENTRY_BYTES = 300
_DIGEST_BYTES = 16

# One thread: threads share the interpreter's lock, so more would only make the event loop wait more often.
_painter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qr-painter")

_Key = tuple[bytes, str]


class _Drawn(NamedTuple):
    picture: bytes | None
    use_until: float


class Pictures:
    """Pictures by code and media type."""

    def __init__(
        self,
        *,
        draw: Callable[[str, str], bytes | None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draw by `draw`, in a thread of its own."""
        self._draw = draw or _draw
        self._monotonic = monotonic
        self._drawn: TLRUCache[_Key, _Drawn] = TLRUCache(
            _KEPT_BYTES,
            ttu=lambda _key, drawn, _now: drawn.use_until,
            timer=monotonic,
            getsizeof=lambda drawn: _ENTRY_BYTES + len(drawn.picture or b""),
        )
        self._drawing: dict[_Key, asyncio.Future[bytes | None]] = {}

    async def get(self, code: str, media_type: str, *, seconds: float) -> bytes | None:
        """Return the picture, or None if the code is too long for any QR code (another writer may have put it).

        Args:
            code: what the picture says.
            media_type: one of `PICTURES`; text is UTF-8, half blocks that are light on a dark terminal.
            seconds: how long it may be asked for again.
        """
        key = (blake2b(code.encode(), digest_size=_DIGEST_BYTES).digest(), media_type)
        drawn = self._drawn.get(key)
        if drawn is not None:
            return drawn.picture
        drawing = self._drawing.get(key)
        if drawing is None:
            drawing = asyncio.get_running_loop().run_in_executor(_painter, self._draw, code, media_type)
            self._drawing[key] = drawing
            drawing.add_done_callback(lambda _: self._drawing.pop(key, None))
        picture = await asyncio.shield(drawing)
        self._drawn[key] = _Drawn(picture, self._monotonic() + seconds)
        return picture


def _draw(code: str, media_type: str) -> bytes | None:
    try:
        symbol = segno.make_qr(code)
    except segno.DataOverflowError:
        return None
    if media_type == TEXT:
        text = StringIO()
        symbol.terminal(text, compact=True)
        return text.getvalue().encode()
    picture = BytesIO()
    symbol.save(picture, kind="png" if media_type == PNG else "svg", scale=8)
    return picture.getvalue()
