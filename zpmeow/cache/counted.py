"""The events that are told most of all, made once: of each there are a few dozen, told several times a read."""

from functools import cache

from zpmeow.events import CacheLookedUp, LoadFinished, LoadOutcome, LookupOutcome, Tier


@cache
def looked_up(entity: str, tier: Tier, outcome: LookupOutcome) -> CacheLookedUp:
    """Return the event that says so."""
    return CacheLookedUp(entity, tier, outcome)


@cache
def load_finished(entity: str, outcome: LoadOutcome) -> LoadFinished:
    """Return the event that says so."""
    return LoadFinished(entity, outcome)
