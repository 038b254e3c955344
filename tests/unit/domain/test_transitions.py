"""The state machine, step by step."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from zpmeow.domain.errors import AlreadyConnected, InvalidTransition
from zpmeow.domain.records import SessionStatus, StatusRecord
from zpmeow.domain.transitions import changes_nothing, connect, disconnect, report

D, C, K, E = SessionStatus.DISCONNECTED, SessionStatus.CONNECTING, SessionStatus.CONNECTED, SessionStatus.ERROR
_ALLOWED = {(D, C), (C, K), (K, C), (E, C)} | {(a, b) for a in SessionStatus for b in (a, D, E)}


def record(status: SessionStatus, *, reason: str | None = None) -> StatusRecord:
    """Make a record of this status whose owner wants it disconnected."""
    return StatusRecord(
        session_id=uuid4(),
        version=1,
        status=status,
        desired_status=D,
        reason=reason,
        changed_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("current", SessionStatus)
@pytest.mark.parametrize("wanted", SessionStatus)
def test_report_takes_exactly_the_steps_of_the_state_machine(current: SessionStatus, wanted: SessionStatus) -> None:
    """An engine's report is accepted where the machine has a step and refused everywhere else."""
    decide = report(wanted, None)

    if (current, wanted) in _ALLOWED:
        assert decide(record(current)).status is wanted
    else:
        with pytest.raises(InvalidTransition) as refusal:
            decide(record(current))
        assert (refusal.value.current, refusal.value.wanted) == (current, wanted)


def test_report_of_the_same_status_changes_nothing() -> None:
    """The same state again keeps the reason that stands."""
    current = record(E, reason="logged out")

    assert changes_nothing(current, report(E, None)(current))


def test_report_replaces_the_reason_when_one_is_given() -> None:
    """A new reason for the same state is news."""
    current = record(E, reason="logged out")

    change = report(E, "banned")(current)

    assert change.reason == "banned"
    assert not changes_nothing(current, change)


def test_report_clears_the_reason_when_the_status_changes() -> None:
    """An old reason does not outlive its state."""
    assert report(D, None)(record(E, reason="logged out")).reason is None


def test_connect_is_refused_when_connected() -> None:
    """There is nothing to connect."""
    with pytest.raises(AlreadyConnected):
        connect(record(K))


@pytest.mark.parametrize("current", [D, C, E])
def test_connect_wishes_to_be_connected_when_not_connected(current: SessionStatus) -> None:
    """The wish leads to connecting, and is remembered."""
    change = connect(record(current))

    assert (change.status, change.desired_status) == (C, K)


@pytest.mark.parametrize("current", SessionStatus)
def test_disconnect_is_always_granted_and_drops_the_qr_code(current: SessionStatus) -> None:
    """Disconnecting is idempotent."""
    change = disconnect(record(current))

    assert (change.status, change.desired_status, change.drops_qr) == (D, D, True)
