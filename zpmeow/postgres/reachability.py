"""Whether the database answers: told once when that changes, however many calls find out at once.

One call that ends badly proves little: a query may wait for a lock until its time is over while others
are answered. So a failure counts only if nobody had an answer since that call began.
"""

import time
from collections.abc import Callable

from zpmeow.events import DatabaseReachabilityChanged, Observer


class Reachability:
    """The verdict of all calls of this process on the database."""

    def __init__(self, *, observer: Observer, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Start with the assumption that the database answers; tell the observer of each change."""
        self._observer = observer
        self._answers = 0
        self._monotonic = monotonic
        self.answered_at = float("-inf")
        """When the database answered last, by the monotonic clock."""
        self._problem: str | None = None
        self._is_down = False

    @property
    def problem(self) -> str | None:
        """Why the database does not answer, for operators; None while it does."""
        return self._problem

    @property
    def is_down(self) -> bool:
        """Whether the problem is that nobody listens at the database's address.

        Then nobody else can change anything either, as far as this address is the database's only one.
        """
        return self._problem is not None and self._is_down

    def begin(self) -> int:
        """Note the beginning of a call; what it returns goes to `failed`."""
        return self._answers

    def answered(self) -> None:
        """Note that the database answered something."""
        self._answers += 1
        self.answered_at = self._monotonic()
        if self._problem is not None:
            self._problem = None
            self._observer(DatabaseReachabilityChanged(None))

    def failed(self, began: int, problem: str, *, is_down: bool = False) -> None:
        """Note that a call that began then had no answer; `is_down` as the property."""
        if self._answers != began:
            return
        self._is_down = is_down
        if self._problem is None:
            self._problem = problem
            self._observer(DatabaseReachabilityChanged(problem))
