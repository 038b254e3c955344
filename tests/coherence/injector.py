"""Makes the scheduled faults happen."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from tests.coherence.faults import ALL_KINDS
from tests.coherence.not_possible import NotPossibleError
from tests.coherence.postgres_faults import foreign_transaction
from tests.coherence.schedule import Planned, Round
from tests.coherence.world import World

_FIRST_CALM_SECONDS = 2.0
_NORMAL_FIRST_SECONDS = 3.0
_FOREIGN_PAUSE_RATIO = 2.0  # Two thirds of the time no foreign transaction is open, so that there is a normal state.


class Injector:
    """Runs rounds of faults in the world."""

    def __init__(self, *, world: World, schedule: Iterator[Round]) -> None:
        """Follow this schedule."""
        self._world = world
        self._schedule = schedule
        self.impossible: Counter[str] = Counter()
        self.cycles = 0
        self.is_to_end = False

    async def run(self) -> None:
        """Make faults until a round ends after `is_to_end` was set: then all is mended, and calm."""
        await asyncio.sleep(_FIRST_CALM_SECONDS)
        for planned_round in self._schedule:
            await self._run_round(planned_round)
            self.cycles += planned_round.ends_cycle
            if self.is_to_end:
                return

    async def _run_round(self, planned_round: Round) -> None:
        """Make the faults of one round, and wait through its calm."""
        async with asyncio.TaskGroup() as group:
            for lane in planned_round.lanes:
                group.create_task(self._run_lane(lane))
        await asyncio.sleep(planned_round.calm_seconds)

    async def run_foreign_transactions(self, seconds: float) -> None:
        """Keep a foreign transaction open for a while, again and again, beside all other faults."""
        await asyncio.sleep(_FIRST_CALM_SECONDS + _NORMAL_FIRST_SECONDS)
        while True:
            await foreign_transaction(self._world, seconds)
            await asyncio.sleep(seconds * _FOREIGN_PAUSE_RATIO)

    async def _run_lane(self, lane: Sequence[Planned]) -> None:
        for planned in lane:
            await asyncio.sleep(planned.gap_seconds)
            try:
                await ALL_KINDS[planned.kind](self._world, Random(planned.seed))
            except NotPossibleError:
                self.impossible[planned.kind] += 1
