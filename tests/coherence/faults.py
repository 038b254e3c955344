"""What a fault is: a coroutine that breaks something in the world, waits, and mends it; and the list of all kinds.

A fault begins when the service can notice it: what has to be prepared before that (a snapshot, a replica in step) is no
part of it. A fault that would have no effect is not made: there must be a listener to kill, a leader to freeze.
"""

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TypeAlias

from tests.coherence import postgres_faults, redis_faults, service_faults
from tests.coherence.world import World

FaultMaker: TypeAlias = Callable[[World, Random], Awaitable[None]]

LONG_KINDS: Mapping[str, FaultMaker] = {
    make.__name__: make for make in (redis_faults.redis_away_for_long, redis_faults.redis_set_back_far)
}
"""Those that take as long as all others together: for long runs, and where nothing else shows a protection."""

KINDS: Mapping[str, FaultMaker] = {
    make.__name__: make
    for make in (
        redis_faults.redis_killed_with_data,
        redis_faults.redis_killed_without_data,
        redis_faults.redis_paused,
        redis_faults.redis_flushed,
        redis_faults.redis_rolled_back,
        redis_faults.replica_promoted,
        redis_faults.position_evicted,
        redis_faults.process_cut_off_from_redis,
        redis_faults.way_lossy,
        redis_faults.way_slowed,
        postgres_faults.listener_killed,
        postgres_faults.postgres_restarted,
        service_faults.service_killed_in_between,
        service_faults.leader_frozen,
    )
}

ALL_KINDS: Mapping[str, FaultMaker] = {**KINDS, **LONG_KINDS}
