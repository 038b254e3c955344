"""The events that are told most of all, made once: of each there are a few dozen, told several times a read."""

from functools import cache

from zpmeow.events import CacheLookedUp, LookupOutcome, Tier


@cache
def looked_up(entity: str, tier: Tier, outcome: LookupOutcome) -> CacheLookedUp:
    """Return the event that says so."""
    return CacheLookedUp(entity, tier, outcome)
