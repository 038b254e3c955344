"""QR codes as pictures. Drawing one takes some 20 ms of pure Python, so it happens beside the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import segno

PNG = "image/png"
SVG = "image/svg+xml"
PICTURES = (PNG, SVG)

# One thread: threads share the interpreter's lock, so more would only make the event loop wait more often.
_painter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qr-painter")


async def draw(code: str, media_type: str) -> bytes | None:
    """Return the picture, or None if the code is too long for any QR code (another writer may have put it)."""
    return await asyncio.get_running_loop().run_in_executor(_painter, _draw, code, media_type)


def _draw(code: str, media_type: str) -> bytes | None:
    try:
        symbol = segno.make_qr(code)
    except segno.DataOverflowError:
        return None
    picture = BytesIO()
    symbol.save(picture, kind="png" if media_type == PNG else "svg", scale=8)
    return picture.getvalue()
