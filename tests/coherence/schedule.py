"""Which faults come when: rounds of faults in two lanes, and calm between them. A seed makes the same schedule again.

    round: lane 1  ▓▓▓ ▓▓   ▓▓▓▓            calm: the consequences settle, and the normal state is checked
           lane 2     ▓▓▓▓▓ ▓▓ ▓▓▓

Every kind comes once in each cycle, in a new order, so that a run of one cycle misses none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tests.coherence.timeline import SETTLING_SECONDS

_SIZES = (4, 5, 6)
_GAP_SECONDS = (0.1, 1.5)
_NORMAL_SECONDS = (1.5, 4.0)


@dataclass(slots=True, frozen=True, kw_only=True)
class Planned:
    """A fault: its kind, how long its lane rests before it, and the seed of its own choices."""

    kind: str
    gap_seconds: float
    seed: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Round:
    """Faults in lanes that run side by side, and the calm after the last of them."""

    lanes: Sequence[Sequence[Planned]]
    calm_seconds: float
    ends_cycle: bool


def make_schedule(kinds: Sequence[str], *, seed: int, lanes: int = 2, is_calm: bool = True) -> Iterator[Round]:
    """Make rounds for ever; none if there are no kinds.

    Args:
        kinds: what is to come.
        seed: makes the same rounds again.
        lanes: how many faults may be on at a time.
        is_calm: whether there is calm after each round. Without, the normal state is never checked.
    """
    chance = Random(f"schedule {seed}")
    while kinds:
        cycle = sorted(kinds)
        chance.shuffle(cycle)
        while cycle:
            size = chance.choice(_SIZES)
            # A last round of one fault would cost a calm of its own.
            if len(cycle) - size < min(_SIZES):
                size = min(len(cycle), 2 * max(_SIZES))
            chosen, cycle = cycle[:size], cycle[size:]
            planned = [
                Planned(kind=kind, gap_seconds=chance.uniform(*_GAP_SECONDS), seed=chance.getrandbits(32))
                for kind in chosen
            ]
            yield Round(
                lanes=[planned[number::lanes] for number in range(lanes)],
                calm_seconds=SETTLING_SECONDS + chance.uniform(*_NORMAL_SECONDS) if is_calm else 0.0,
                ends_cycle=not cycle,
            )
