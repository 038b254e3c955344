"""A snapshot that can be read again: from this process' memory at next to no cost, or as every read, without a look for
where it is.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from typing_extensions import override

from zpmeow.cache.recall import Followed, Recall
from zpmeow.domain.records import Entity, Snapshot, SnapshotRecall
from zpmeow.events import Observer, SessionRead
from zpmeow.repositories.inspector import Inspector


@dataclass(slots=True, frozen=True, kw_only=True)
class CachedSnapshotRecall(SnapshotRecall):
    """Where the snapshot was found.

    Attributes:
        session_id: whose it is.
        entities: those of the local recall's entries, in their order.
        led_by: the name and the key, either of which may have led here, and may lead to another session by now.
        local: what repeats it from this process' memory; None if that did not answer.
        read_by_id: reads it as every read, and counts that.
        counts_as: what repeating it counts as, besides hits that the inspector may look into.
        inspector, observer: are told.
    """

    session_id: UUID
    entities: Sequence[Entity]
    led_by: Followed
    local: Recall | None
    read_by_id: Callable[[], Awaitable[Snapshot | None]]
    counts_as: SessionRead
    inspector: Inspector
    observer: Observer

    @override
    def repeat(self) -> bool:
        local = self.local
        if local is None or not self.led_by.may_still_lead() or not local.repeat():
            return False
        versions = (entry.version for entry in local.entries)
        self.inspector.consider(self.session_id, zip(self.entities, versions, strict=True))
        self.observer(self.counts_as)
        return True

    @override
    async def read(self) -> Snapshot | None:
        return await self.read_by_id() if self.led_by.may_still_lead() else None
