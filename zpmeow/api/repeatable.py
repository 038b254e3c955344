"""What a handler says of an answer that may be given again as it is (`recalled_answers`)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from zpmeow.domain.records import Notes, SnapshotRecall


@dataclass(slots=True, frozen=True, kw_only=True)
class Repeatable:
    """What it takes to give an answer again.

    Attributes:
        make_recall: makes what tells whether it still holds.
        notes: those of the session's own record, which the answer lives with.
        until: the moment at which it stops to hold by itself, by the database's clock.
        etag: what the answer is compared by.
        body: what a caller gets who does not have it already.
    """

    make_recall: Callable[[], SnapshotRecall | None]
    notes: Notes
    until: datetime | None
    etag: str
    body: bytes
