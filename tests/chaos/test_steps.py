"""The steps of scenarios: a fault that was not there breaks the run off."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from deploy.chaos.harness.steps import demand_effects, impair_ways
from tests.coherence.world import World
from tests.servers.fault_proxy import Effect, FaultProxy, Impairment
from tests.servers.processes import ServerFailedError


@pytest.fixture
def proxies() -> Iterator[dict[str, FaultProxy]]:
    """The ways of two processes, of which nothing comes."""
    proxies = {name: FaultProxy(target_port=1) for name in "AB"}
    yield proxies
    for proxy in proxies.values():
        proxy.close()


@pytest.fixture
def world(proxies: dict[str, FaultProxy]) -> World:
    """A world of ways alone."""
    return cast("World", SimpleNamespace(proxies=proxies))


def test_run_is_broken_off_when_one_way_had_less_than_demanded(world: World, proxies: dict[str, FaultProxy]) -> None:
    """What one way had too little of, another one does not make good, nor does what was before."""
    proxies["B"].effects[Effect.CUT] = 5

    def cut_too_few() -> None:
        with demand_effects(world, {Effect.CUT: 2}):
            proxies["A"].effects[Effect.CUT] += 9
            proxies["B"].effects[Effect.CUT] += 1

    with pytest.raises(ServerFailedError, match="1 cut on the way of process B to Redis, 2 are the least"):
        cut_too_few()


def test_run_goes_on_when_each_way_had_what_was_demanded(world: World, proxies: dict[str, FaultProxy]) -> None:
    """As much as the least is enough."""
    with demand_effects(world, {Effect.CUT: 2}):
        for proxy in proxies.values():
            proxy.effects[Effect.CUT] += 2


async def test_impairment_breaks_the_run_off_when_nothing_was_impaired(
    world: World, proxies: dict[str, FaultProxy]
) -> None:
    """Ways on which nothing came cannot have been impaired; they are whole again all the same."""
    with pytest.raises(ServerFailedError, match="0 sliced"):
        await impair_ways(world, 0.0, down=Impairment(slice_bytes=1), least=1)

    assert [proxy.down for proxy in proxies.values()] == [Impairment()] * 2
