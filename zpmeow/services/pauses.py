"""How long a request has waited because its caller asked it to (`wait=30`): no part of how long its answer took, nor of
its patience with the database. After a pause it may ask the cache again for as long as it could at its beginning.

`counting_pauses` is for whoever measures a request, `pausing` for whoever lets it wait.
"""

import time
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from zpmeow.cache.call_budget import renew_budget
from zpmeow.domain.patience import extend_patience
from zpmeow.events import Observer, WaitBegun, WaitEnded


class counting_pauses:  # noqa: N801  (a context manager is called like a function)
    """Add up the pauses of what runs in this block, in `seconds`; the observer learns of each."""

    __slots__ = ("_token", "observer", "seconds")
    _token: "Token[counting_pauses | None]"

    def __init__(self, observer: Observer) -> None:
        """Begin with none."""
        self.observer = observer
        self.seconds = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        self._token = _counting.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        _counting.reset(self._token)


class pausing:  # noqa: N801  (as above)
    """The block is a pause: nothing is done for the request in it."""

    __slots__ = ("_began_at", "_counting")

    def __enter__(self) -> None:
        """Begin."""
        self._counting = _counting.get()
        self._began_at = time.perf_counter()
        if self._counting is not None:
            self._counting.observer(WaitBegun())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, however."""
        seconds = time.perf_counter() - self._began_at
        extend_patience(seconds)
        renew_budget()
        if self._counting is not None:
            self._counting.seconds += seconds
            self._counting.observer(WaitEnded())


_counting: ContextVar[counting_pauses | None] = ContextVar("zpmeow_counting_pauses", default=None)
