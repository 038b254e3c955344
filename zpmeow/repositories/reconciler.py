"""Finds out what became of the writes that the database broke off in.

Such a commit may have happened, or not, or may happen yet: the server goes on with a statement until its own
timeout. So each session in doubt is looked at until the database answers, and once more when nothing can be
under way any longer; each look lets the cache take over what is found.

    start ── fresh ── look, one at a time ──→ settling ── 65 s later, look again ──→ done
               └── the database is away: pause, try again

One look at a time, so that a database that returns is not met by a crowd of our own making. What cannot be
found out (too many in doubt, or a stop before it was settled) is told to `lost`: the whole cache is void then.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable

from zpmeow.domain.errors import Unavailable
from zpmeow.domain.references import SessionReference
from zpmeow.events import BackgroundTaskCrashed, Observer

MAX_IN_DOUBT = 1_000  # Arbitrary: what 20 callers a second leave in doubt before the database is found away for long.
_PAUSE_SECONDS = 0.5
_SETTLE_SECONDS = 65.0  # Above the server's own statement timeout: DB_TIMEOUT, a minute at most, and 1 s.


class Reconciler:
    """The sessions in doubt, and the two tasks that look at them: the first time, and the second."""

    def __init__(
        self,
        *,
        look: Callable[[SessionReference], Awaitable[None]],
        lost: Callable[[], None],
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call `look`, which raises Unavailable while the database is away; `lost` when it will not be found out."""
        self._look = look
        self._lost = lost
        self._observer = observer
        self._sleep = sleep
        self._monotonic = monotonic
        self._fresh: dict[SessionReference, object] = {}
        self._settling: dict[SessionReference, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def in_doubt(self) -> int:
        """How many sessions are to be looked at."""
        return len(self._fresh) + len(self._settling)

    def start(self, reference: SessionReference) -> None:
        """Look into a session; anew, if that is under way already."""
        if self.in_doubt >= MAX_IN_DOUBT:
            self._lost()
            return
        self._fresh[reference] = object()
        self._settling.pop(reference, None)
        self._run("reconcile", self._look_first)

    async def close(self) -> None:
        """Stop looking; what is still in doubt is lost."""
        if self.in_doubt:
            self._lost()
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look_first(self) -> None:
        while self._fresh:
            reference, doubt = next(iter(self._fresh.items()))
            if not await self._has_answer(reference):
                await self._sleep(_PAUSE_SECONDS)
            elif self._fresh.get(reference) is doubt:
                # Else another write broke off meanwhile, and is looked into on its own.
                del self._fresh[reference]
                self._settling[reference] = self._monotonic() + _SETTLE_SECONDS
                self._run("reconcile-again", self._look_again)

    async def _look_again(self) -> None:
        while self._settling:
            reference, due = next(iter(self._settling.items()))
            await self._sleep(max(0.0, due - self._monotonic()))
            if self._settling.get(reference) != due:
                continue
            if not await self._has_answer(reference):
                await self._sleep(_PAUSE_SECONDS)
            elif self._settling.get(reference) == due:
                del self._settling[reference]

    async def _has_answer(self, reference: SessionReference) -> bool:
        try:
            await self._look(reference)
        except Unavailable:
            return False
        except Exception as error:  # noqa: BLE001  (whatever it was, it is told, and nothing is known of the session)
            self._observer(BackgroundTaskCrashed("reconcile", error))
            self._lost()
        return True

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have the work running, outside of the request that asks for it."""
        running = self._tasks.get(name)
        if running is None or running.done():
            self._tasks[name] = asyncio.get_running_loop().create_task(
                _call(work), name=name, context=contextvars.Context()
            )


async def _call(work: Callable[[], Awaitable[None]]) -> None:
    await work()
