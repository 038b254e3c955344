"""How long the cache calls of one request may take together, and how far a call has come.

`open_budget` gives a request its budget; `ResilientTier` charges every call to the one it finds in its
context, or to a fresh one where there is none. Only the time in cache calls counts, not what the request
does in between (the database). Calls that run at the same time share one deadline and are charged once.

A task inherits the context of its maker, so a task that outlives a request would inherit a used-up budget:
a budget whose request has ended is ignored, and a task that works beside its request for others too
(a shared load, a fill, a retry) says `outside_budget`.

`CallProgress` is how the tier below tells the one above whether a call still waited for its turn or already
talked to the server when the deadline came: the first says nothing about the server's health.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import TracebackType


class CallBudget:
    """What is left for the cache calls of one request. All times are seconds of one monotonic clock."""

    __slots__ = ("_began_at", "_closed", "_left_seconds", "_running", "_seconds", "is_whole", "talked_seconds")

    def __init__(self, *, seconds: float) -> None:
        """Start with `seconds` for all calls together."""
        self._seconds = seconds
        self._left_seconds = seconds
        self._running = 0
        self._began_at = 0.0
        self._closed = False
        self.is_whole = True
        """Whether no call has begun yet."""
        self.talked_seconds = 0.0
        """How long its calls have talked to the server so far, waiting for a turn not included."""

    def __repr__(self) -> str:
        """Show what is left, without what the running calls have used."""
        return f"CallBudget(left_seconds={self._left_seconds:.4f}, running={self._running}, closed={self._closed})"

    @property
    def closed(self) -> bool:
        """Whether the request has ended that this budget was opened for."""
        return self._closed

    def begin(self, now: float) -> float:
        """Note that a call begins; return the instant by which it must have ended (it may have passed)."""
        if self._running == 0:
            self._began_at = now
        self._running += 1
        self.is_whole = False
        return self._began_at + self._left_seconds

    def end(self, now: float) -> None:
        """Note that a call ended; the last of several at the same time is charged for all."""
        self._running -= 1
        if self._running == 0:
            self._left_seconds -= now - self._began_at

    def renew(self) -> None:
        """Begin anew, as after a pause that the request's caller asked for. Not while a call runs."""
        if self._running == 0:
            self._left_seconds = self._seconds
            self.talked_seconds = 0.0
            self.is_whole = True

    def close(self) -> None:
        """Let calls that still find this budget in their context take a fresh one."""
        self._closed = True


class CallProgress:
    """Since when a call has talked to the server; `talking_since` is None while it waits for its turn."""

    __slots__ = ("talking_since",)

    def __init__(self, *, now: float) -> None:
        """Take it that the call talks from its beginning, until a tier says otherwise."""
        self.talking_since: float | None = now

    @property
    def is_waiting(self) -> bool:
        """Whether the call waits for its turn."""
        return self.talking_since is None

    def talked_seconds(self, now: float) -> float:
        """Tell for how long the call has talked to the server."""
        return 0.0 if self.talking_since is None else now - self.talking_since


_budget: ContextVar[CallBudget | None] = ContextVar("zpmeow_call_budget", default=None)
_progress: ContextVar[CallProgress | None] = ContextVar("zpmeow_call_progress", default=None)


class open_budget:  # noqa: N801  (a context manager is called like a function)
    """Give all cache calls within this block, and within tasks made in it, one budget together."""

    __slots__ = ("_budget", "_token")
    _token: Token[CallBudget | None]

    def __init__(self, seconds: float) -> None:
        """Give so many seconds."""
        self._budget = CallBudget(seconds=seconds)

    def __enter__(self) -> CallBudget:
        """Begin."""
        self._token = _budget.set(self._budget)
        return self._budget

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        self._budget.close()
        _budget.reset(self._token)


@contextmanager
def outside_budget() -> Iterator[None]:
    """Give each cache call within this block a fresh budget, whatever the context says."""
    token = _budget.set(None)
    try:
        yield
    finally:
        _budget.reset(token)


def renew_budget() -> None:
    """Let the budget of the context, if there is one, begin anew."""
    budget = _budget.get()
    if budget is not None:
        budget.renew()


def budget_or_fresh(seconds: float) -> CallBudget:
    """Return the budget of the context, or a fresh one for one call."""
    budget = _budget.get()
    return CallBudget(seconds=seconds) if budget is None or budget.closed else budget


def observe_progress(now: float) -> CallProgress:
    """Let the tier below report how far the next call of this task has come.

    The next one takes its place; nobody reports to it after its call has ended.
    """
    progress = CallProgress(now=now)
    _progress.set(progress)
    return progress


def report_waiting() -> None:
    """Say that this call waits for its turn and has not begun to talk."""
    progress = _progress.get()
    if progress is not None:
        progress.talking_since = None


def report_talking(now: float) -> None:
    """Say that this call begins to talk to the server."""
    progress = _progress.get()
    if progress is not None:
        progress.talking_since = now
