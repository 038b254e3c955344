"""What a record says at a moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from zpmeow.domain.records import ENGINE_SILENT, Entity, QrRecord, ReadSource, SessionStatus, Snapshot, StatusRecord

END = datetime(2026, 1, 1, tzinfo=UTC)
IDENTIFIER = uuid4()
PROMISED = StatusRecord(
    session_id=IDENTIFIER,
    version=7,
    status=SessionStatus.CONNECTED,
    desired_status=SessionStatus.CONNECTED,
    reason="paired",
    changed_at=END - timedelta(minutes=1),
    valid_until=END,
)


def test_a_promise_reads_as_it_was_made_until_its_end() -> None:
    """A moment before its end a promise still holds."""
    assert PROMISED.at(END - timedelta(microseconds=1)) is PROMISED


@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=1)])
def test_a_promise_reads_as_an_error_from_its_end_on(late: timedelta) -> None:
    """From its end on it is what the sweep will record: an error since that moment, of the same version."""
    says = PROMISED.at(END + late)

    assert (says.status, says.reason, says.changed_at) == (SessionStatus.ERROR, ENGINE_SILENT, END)
    assert (says.version, says.desired_status, says.valid_until) == (7, SessionStatus.CONNECTED, None)
    assert says.is_overdue


def test_a_status_without_a_promise_never_ends() -> None:
    """Who promises nothing is never silent."""
    unbound = replace(PROMISED, valid_until=None)

    assert unbound.at(END + timedelta(days=1000)) is unbound


def test_a_snapshot_says_what_its_status_says() -> None:
    """The other records have no such moment."""
    code = QrRecord(session_id=IDENTIFIER, version=1, code=None, expires_at=None)
    snapshot = Snapshot(records={Entity.STATUS: PROMISED, Entity.QR: code}, source=ReadSource.LOCAL)

    assert snapshot.at(END - timedelta(seconds=1)) is snapshot
    assert snapshot.at(END).status.is_overdue
    assert snapshot.at(END).qr is code
    assert Snapshot(records={Entity.QR: code}, source=ReadSource.LOCAL).at(END).qr is code
