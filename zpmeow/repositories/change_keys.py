"""From the words of the change log to the cache's keys."""

from collections.abc import Iterable

from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.policy import EntryKey, HintKey
from zpmeow.cache.tier import Entry
from zpmeow.domain.changes import Change
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ByName, parse_uuid
from zpmeow.repositories.cache_policies import CachePolicies

_ENTITIES = {entity.value: entity for entity in Entity}


class ChangeKeys:
    """Knows where a change's record or look-up is cached."""

    def __init__(self, *, policies: CachePolicies, codec: EntryCodec) -> None:
        """Go by these policies."""
        self._policies = policies
        self._codec = codec

    def key_of(self, change: Change) -> EntryKey | HintKey | None:
        """Return where it is cached; None for what concerns no entry, or is none of ours."""
        entity = _ENTITIES.get(change.entity)
        if entity is not None:
            session_id = parse_uuid(change.key)
            return None if session_id is None else self._policies.entry_key(session_id, entity)
        if change.entity == "name":
            return self._policies.hint_key(ByName(change.key))
        if change.entity == "key":
            return self._policies.hint_key_of_digits(change.key)
        return None

    def fences(self, changes: Iterable[Change], *, epoch: bytes) -> list[Entry]:
        """Return what the changes mean for a tier: a fence for each entry, at its newest version.

        Hints are left alone: one that leads elsewhere now is found out by who follows it.
        """
        versions: dict[EntryKey, int] = {}
        for change in changes:
            key = self.key_of(change)
            if isinstance(key, EntryKey):
                versions[key] = max(change.version, versions.get(key, 0))
        return [self._codec.fence(key, version, epoch=epoch, retire=False) for key, version in versions.items()]
