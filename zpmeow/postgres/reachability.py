"""Whether the database answers: told once when that changes, however many calls find out at once.

One call that ends badly proves little: a query may wait for a lock until its time is over while others
are answered. So a failure counts only if nobody had an answer since that call began.
"""

from zpmeow.events import DatabaseReachabilityChanged, Observer


class Reachability:
    """The verdict of all calls of this process on the database."""

    def __init__(self, *, observer: Observer) -> None:
        """Start with the assumption that the database answers; tell the observer of each change."""
        self._observer = observer
        self._answers = 0
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the database does not answer, for operators; None while it does."""
        return self._problem

    def begin(self) -> int:
        """Note the beginning of a call; what it returns goes to `failed`."""
        return self._answers

    def answered(self) -> None:
        """Note that the database answered something."""
        self._answers += 1
        if self._problem is not None:
            self._problem = None
            self._observer(DatabaseReachabilityChanged(None))

    def failed(self, began: int, problem: str) -> None:
        """Note that a call that began then had no answer."""
        if self._answers == began and self._problem is None:
            self._problem = problem
            self._observer(DatabaseReachabilityChanged(problem))
