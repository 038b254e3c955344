"""The operator's switch: what was cached before a bypass is void after it."""

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
    """Shared settings in memory; counts the epochs."""

    def __init__(self) -> None:
        """Begin in normal."""
        self.mode = "normal"
        self.epochs = 1

    async def read(self) -> ControlState:
        """Return the settings."""
        return ControlState(mode=self.mode, epoch=bytes([self.epochs]) * 16, read_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def set_mode(self, mode: str) -> None:
        """Keep the mode."""
        self.mode = mode

    async def raise_epoch(self) -> bytes:
        """Begin another epoch."""
        self.epochs += 1
        return bytes([self.epochs]) * 16


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
    watch = ControlWatch(store=store, followers=(), needs_new_epoch=lambda: False, observer=ignore)
    return CacheControl(cache=None, sessions=NoSessions(), store=store, watch=watch, database=Well(), pool=Well())


@pytest.mark.parametrize(
    ("modes", "epochs"),
    [
        ([CacheMode.NORMAL], 1),
        ([CacheMode.BYPASS], 1),
        ([CacheMode.BYPASS, CacheMode.BYPASS], 1),
        ([CacheMode.BYPASS, CacheMode.NORMAL], 2),
        ([CacheMode.BYPASS, CacheMode.NORMAL, CacheMode.NORMAL], 2),
    ],
)
async def test_epoch_is_raised_when_a_bypass_ends(modes: list[CacheMode], epochs: int) -> None:
    """Only the step from bypass to normal makes the cache void."""
    store = Store()
    control = make_control(store)

    for mode in modes:
        await control.set_mode(mode)

    assert (store.epochs, store.mode) == (epochs, modes[-1])
    assert (await control.state()).mode == modes[-1]


async def test_state_says_disabled_when_there_is_no_cache() -> None:
    """Without a cache nothing is connected and nothing is trusted."""
    state = await make_control(Store()).state()

    assert (state.cache_enabled, state.cache_connected, state.cache_trusted) == (False, False, False)


async def test_invalidating_an_unknown_session_is_refused() -> None:
    """There is nothing to empty."""
    with pytest.raises(SessionNotFound):
        await make_control(Store()).invalidate(ByName("unknown"))
