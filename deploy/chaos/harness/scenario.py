"""What a scenario consists of: what is believed, what is done, what must hold, and what would break it off."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.chaos.harness.expectations import Expectation
from tests.coherence.world import World


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """What a run has to keep, besides: no failed request without a cause, no old answer, a load sent at its rate.

    Attributes:
        p99_ratio: 99 of 100 answers during the fault take at most so many times what they take in the steady state; or
            `CACHE_TIMEOUT` and what they take from the database alone, if that is longer.
        p99_seconds: takes the place of both, where the fault itself takes time.
        reads_p90_seconds: 90 of 100 reads, which need no database, are answered after so long; None: as all.
        refused_after_seconds: so long after the return of database and process nobody is refused any more.
        refused_p99_seconds: 99 of 100 of those that are refused with a cause know it after so long.
        closed_within_seconds: so long after the healing every process uses Redis again.
        memory_ratio: the largest process, to what it was in the steady state.
        log_bytes_per_request: of all processes together.
        transitions_a_minute: of one breaker; None: as many as it likes.
        answered_from_redis_ratio: so much of what Redis answered in the steady state it answers afterwards, of each
            process.
        longest_seconds: nobody waits longer for an answer, whatever it is: `DB_TIMEOUT`, the cache's before it, and
            what a busy machine needs.
    """

    p99_ratio: float = 3.0
    p99_seconds: float | None = None
    reads_p90_seconds: float | None = None
    refused_after_seconds: float = 1.0
    refused_p99_seconds: float = 5.5
    closed_within_seconds: float = 2.0
    memory_ratio: float = 1.2
    log_bytes_per_request: float = 100.0
    transitions_a_minute: float | None = None
    answered_from_redis_ratio: float = 0.5
    longest_seconds: float = 6.5


@dataclass(slots=True, frozen=True, kw_only=True)
class Scenario:
    """One experiment.

    Attributes:
        hypothesis: what users see, according to what we believe.
        fault: what is done, in words.
        aborts_when: what would break it off, as it would mean that something else was tried than what is told.
        inject: does it, and returns when all is healed.
        expects: what shows that the fault was there, and that what is believed of it is true: problems in words.
        limits: what must hold.
        settings: of the services, beside where their servers are.
        redis_options: the end of Redis' command line.
        disturbs_stores: whether a store, the way to one or a process is away or wrong, so that changes may take their
            time to be seen. If not, the 100 ms of the normal state hold during the fault, too.
        has_postgres_proxy: whether the way to PostgreSQL leads through a proxy, as that to Redis does.
        leaves_garbage: whether there may be corrupt entries in Redis afterwards, which nobody has read since.
        longest_seconds: a fault that lasts longer than this is broken off.
    """

    hypothesis: str
    fault: str
    aborts_when: str
    inject: Callable[[World], Awaitable[None]]
    expects: Sequence[Expectation]
    limits: Limits = field(default_factory=Limits)
    settings: Mapping[str, str] = field(default_factory=dict)
    redis_options: Sequence[str] = ()
    disturbs_stores: bool = True
    has_postgres_proxy: bool = False
    leaves_garbage: bool = False
    longest_seconds: float = 180.0
