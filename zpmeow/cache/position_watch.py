"""Looks at the position now and then, so that an idle process, too, knows whether its tier is believed.

It also keeps the position warm: a server that evicts what was not read for long keeps what is read every second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never

from zpmeow.cache.change_sink import ChangeSink
from zpmeow.cache.coherence import Belief, Coherence
from zpmeow.cache.errors import CacheError
from zpmeow.cache.position import POSITION_KEY
from zpmeow.cache.tier import ADVISED_POLICIES, CacheTier
from zpmeow.events import EvictionPolicyFound, Observer, TrustChanged

PERIOD_SECONDS = 1.0
_POLL_SECONDS = 0.05


class PositionWatch:
    """Judges the position of a guarded tier, and waits for a good one before the guard opens."""

    def __init__(
        self,
        *,
        tier: CacheTier,
        coherence: Coherence,
        observer: Observer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Look through `tier`."""
        self._tier = tier
        self._coherence = coherence
        self._observer = observer
        self._sleep = sleep
        self._reason: str | None = "not looked at yet"

    async def run(self) -> Never:
        """Look for ever; tell when the verdict changes."""
        while True:
            await self.look()
            await self._sleep(PERIOD_SECONDS)

    async def look(self) -> None:
        """Look once."""
        try:
            (position,) = await self._tier.get_many([POSITION_KEY])
            reason = self._coherence.judge(position).reason
        except CacheError as error:
            reason = str(error)
        if reason != self._reason:
            self._reason = reason
            self._observer(TrustChanged(reason))
            if reason is None:
                await self._check_policy()

    async def _check_policy(self) -> None:
        """Tell of a server that evicts the wrong way; it may be another one each time that it is believed anew."""
        try:
            policy = (await self._tier.describe()).maxmemory_policy
        except CacheError:
            return  # Advice, no more: the next time, then.
        if policy is not None and policy not in ADVISED_POLICIES:
            self._observer(EvictionPolicyFound(policy))

    async def wait_until_caught_up(self, sink: ChangeSink) -> None:
        """Wait until what stands in the tier can be believed. Raises CacheError.

        Without a change feed there is nothing to wait for: nothing is believed then anyway, while the database
        answers.
        """
        while self._coherence.feed_is_live:
            if self._coherence.judge(await sink.read_position()).belief is Belief.TRUSTED:
                return
            await self._sleep(_POLL_SECONDS)
