"""What a handler says of an answer that may be given again as it is (`recalled_answers`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from zpmeow.domain.records import Entity, Record, SnapshotRecall
from zpmeow.services.access import Admission


@dataclass(slots=True, frozen=True, kw_only=True)
class Repeatable:
    """What it takes to give an answer again.

    Attributes:
        make_recall: makes what reads again what it was made of.
        records: what it was made of. The same records make the same answer, in the same epoch.
        epoch_tag: that epoch's.
        until: the moment at which it stops to hold by itself, by the database's clock.
        admission: why its caller got it. Holds for the same key as long as the session's own record is the same.
        etag: what the answer is compared by.
        body: what a caller gets who does not have it already.
    """

    make_recall: Callable[[], SnapshotRecall]
    records: Mapping[Entity, Record]
    epoch_tag: str
    until: datetime | None
    admission: Admission
    etag: str
    body: bytes
