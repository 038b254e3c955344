"""A snapshot that was read from this process' memory, and can be read again from there at next to no cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from typing_extensions import override

from zpmeow.cache.recall import Recall
from zpmeow.domain.records import Entity, SnapshotRecall
from zpmeow.events import Observer, SessionRead
from zpmeow.repositories.inspector import Inspector


@dataclass(slots=True, frozen=True, kw_only=True)
class CachedSnapshotRecall(SnapshotRecall):
    """What each recall counts as: a read of the session, and hits that the inspector may look into.

    `entities` are those of the recall's entries, in their order.
    """

    recall: Recall
    session_id: UUID
    entities: Sequence[Entity]
    read: SessionRead
    inspector: Inspector
    observer: Observer

    @override
    def repeat(self) -> bool:
        if not self.recall.repeat():
            return False
        versions = (entry.version for entry in self.recall.entries)
        self.inspector.consider(self.session_id, zip(self.entities, versions, strict=True))
        self.observer(self.read)
        return True
