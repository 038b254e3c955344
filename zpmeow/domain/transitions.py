"""The state machine of a session's connection.

    disconnected ──→ connecting ──→ connected
                      ↑      ↑          │
                    error    └──────────┘ (an engine reconnects)

`disconnected` and `error` can be reached from anywhere. The same state again changes nothing.
Each function here is a decision on the current record, made while its row is locked.
"""

from collections.abc import Callable
from dataclasses import dataclass

from zpmeow.domain.errors import AlreadyConnected, InvalidTransition
from zpmeow.domain.records import SessionStatus, StatusRecord

_STEPS = {
    SessionStatus.DISCONNECTED: {SessionStatus.CONNECTING},
    SessionStatus.CONNECTING: {SessionStatus.CONNECTED},
    SessionStatus.CONNECTED: {SessionStatus.CONNECTING},
    SessionStatus.ERROR: {SessionStatus.CONNECTING},
}
_FROM_ANYWHERE = {SessionStatus.DISCONNECTED, SessionStatus.ERROR}


@dataclass(slots=True, frozen=True, kw_only=True)
class StatusChange:
    """What becomes of a status record: its new fields, and whether the QR code goes with it."""

    status: SessionStatus
    desired_status: SessionStatus
    reason: str | None
    drops_qr: bool = False


def check_step(current: SessionStatus, wanted: SessionStatus) -> None:
    """Raise InvalidTransition unless the state machine has the step."""
    if wanted is not current and wanted not in _FROM_ANYWHERE and wanted not in _STEPS[current]:
        raise InvalidTransition(current, wanted)


def connect(current: StatusRecord) -> StatusChange:
    """Decide on the owner's wish to connect. Raises AlreadyConnected on a connected session."""
    if current.status is SessionStatus.CONNECTED:
        message = "the session is already connected"
        raise AlreadyConnected(message)
    reason = current.reason if current.status is SessionStatus.CONNECTING else None
    return StatusChange(status=SessionStatus.CONNECTING, desired_status=SessionStatus.CONNECTED, reason=reason)


def disconnect(current: StatusRecord) -> StatusChange:
    """Decide on the owner's wish to disconnect: always granted, drops the QR code."""
    reason = current.reason if current.status is SessionStatus.DISCONNECTED else None
    return StatusChange(
        status=SessionStatus.DISCONNECTED,
        desired_status=SessionStatus.DISCONNECTED,
        reason=reason,
        drops_qr=True,
    )


def report(status: SessionStatus, reason: str | None) -> Callable[[StatusRecord], StatusChange]:
    """Make the decision on an engine's report; it raises InvalidTransition where there is no step.

    The same state again changes nothing, a new reason included only if one is given.
    """

    def decide(current: StatusRecord) -> StatusChange:
        check_step(current.status, status)
        same = status is current.status and reason is None
        return StatusChange(
            status=status,
            desired_status=current.desired_status,
            reason=current.reason if same else reason,
        )

    return decide


def changes_nothing(current: StatusRecord, change: StatusChange) -> bool:
    """Tell whether the record already says all of that (the QR code aside)."""
    return (current.status, current.desired_status, current.reason) == (
        change.status,
        change.desired_status,
        change.reason,
    )
