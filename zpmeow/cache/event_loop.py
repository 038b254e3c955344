"""The event loop that an object works in, asked for once.

Python 3.11 asks the system for the number of the process each time that somebody asks which loop runs; that took a
tenth of the CPU of a read. (Measured where system calls are dear; Python 3.12 does not ask any more.)
"""

import asyncio


class OwnLoop:
    """Returns the loop in which it was called first: for objects that live in one loop."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        """Ask when it is called."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop
