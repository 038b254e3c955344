"""The operator's hand on the cache: the switch, and what is refused."""

from datetime import UTC, datetime

import pytest

from zpmeow.cache.mode import CacheMode
from zpmeow.domain.errors import SessionNotFound
from zpmeow.domain.ports import ControlState
from zpmeow.domain.records import Snapshot
from zpmeow.domain.references import ByName, SessionReference
from zpmeow.events import ignore
from zpmeow.services.cache_control import CacheControl, PoolFacts
from zpmeow.services.control_watch import ControlWatch


class Store:
    """Shared settings in memory."""

    def __init__(self) -> None:
        """Begin in normal."""
        self.mode = "normal"

    async def read(self) -> ControlState:
        """Return the settings."""
        return ControlState(mode=self.mode, epoch=bytes(16), read_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def set_mode(self, mode: str) -> None:
        """Keep the mode."""
        self.mode = mode


class NoSessions:
    """A cache of no sessions."""

    async def invalidate(self, _reference: SessionReference) -> Snapshot | None:
        """Find nothing."""
        return None

    async def warm(self, _limit: int) -> int:
        """Send nothing."""
        return 0


class Well:
    """A database without a problem and without callers."""

    async def problem(self) -> str | None:
        """Have none."""
        return None

    def pool_facts(self) -> PoolFacts:
        """Have no connections."""
        return PoolFacts(size=0, idle=0, in_use=0, waiting=0)


def make_control(store: Store) -> CacheControl:
    """Make one without a cache."""
    watch = ControlWatch(store=store, followers=(), observer=ignore)
    return CacheControl(
        cache=None,
        sessions=NoSessions(),
        store=store,
        watch=watch,
        database=Well(),
        pool=Well(),
        feed_is_live=lambda: True,
    )


async def test_mode_is_kept_and_followed_at_once_when_an_operator_switches() -> None:
    """What was asked for is in the store and in force here when the call returns."""
    store = Store()
    control = make_control(store)

    await control.set_mode(CacheMode.BYPASS)

    assert store.mode == CacheMode.BYPASS
    assert (await control.state()).mode == CacheMode.BYPASS


async def test_state_says_disabled_when_there_is_no_cache() -> None:
    """Without a cache nothing is connected and nothing is trusted."""
    state = await make_control(Store()).state()

    assert (state.cache_enabled, state.cache_connected, state.cache_trusted) == (False, False, False)
    assert state.feed_is_live


async def test_invalidating_an_unknown_session_is_refused() -> None:
    """There is nothing to empty."""
    with pytest.raises(SessionNotFound):
        await make_control(Store()).invalidate(ByName("unknown"))
