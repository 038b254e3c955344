"""The state machine of a session's connection.

    disconnected ──→ connecting ──→ connected
                      ↑      ↑          │
                    error    └──────────┘ (an engine reconnects)

`disconnected` and `error` can be reached from anywhere. The same state again changes nothing.
Each function here is a decision on the current record, made while its row is locked.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from zpmeow.domain.commands import CommandAction, NewCommand
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
    """What becomes of a status record: its new fields, which codes go with it, and what engines are to do.

    `valid_for_seconds`: the new status is a promise for so long; None: it holds until the next. `keeps_promise`: what
    was promised still is.
    """

    status: SessionStatus
    desired_status: SessionStatus
    reason: str | None
    drops_codes: bool = False
    drops_pairing_code: bool = False
    valid_for_seconds: float | None = None
    keeps_promise: bool = False
    command: NewCommand | None = None


def check_step(current: SessionStatus, wanted: SessionStatus) -> None:
    """Raise InvalidTransition unless the state machine has the step."""
    if wanted is not current and wanted not in _FROM_ANYWHERE and wanted not in _STEPS[current]:
        raise InvalidTransition(current, wanted)


def connect(current: StatusRecord) -> StatusChange:
    """Decide on the owner's wish to connect. Raises AlreadyConnected on a connected session.

    While an engine promises that it is connecting, there is nothing to tell another one.
    """
    change = _connect(current, NewCommand(action=CommandAction.CONNECT))
    is_promised = change.keeps_promise and current.valid_until is not None
    is_wished = current.desired_status is SessionStatus.CONNECTED  # Else a command to disconnect may be on its way.
    return replace(change, command=None) if is_promised and is_wished else change


def pair(phone: str) -> Callable[[StatusRecord], StatusChange]:
    """Make the decision on the owner's wish to pair by telephone, which is one to connect.

    It raises AlreadyConnected on a connected session.
    """
    command = NewCommand(action=CommandAction.PAIR, phone=phone)
    return lambda current: replace(_connect(current, command), drops_pairing_code=True)


def _connect(current: StatusRecord, command: NewCommand) -> StatusChange:
    if current.status is SessionStatus.CONNECTED:
        message = "the session is already connected"
        raise AlreadyConnected(message)
    is_under_way = current.status is SessionStatus.CONNECTING
    return StatusChange(
        status=SessionStatus.CONNECTING,
        desired_status=SessionStatus.CONNECTED,
        reason=current.reason if is_under_way else None,
        keeps_promise=is_under_way,
        command=command,
    )


def disconnect(current: StatusRecord) -> StatusChange:
    """Decide on the owner's wish to disconnect: always granted, drops the codes.

    On a session that is disconnected and should be, there is nothing for an engine to do.
    """
    is_so = current.status is current.desired_status is SessionStatus.DISCONNECTED
    reason = current.reason if current.status is SessionStatus.DISCONNECTED else None
    return StatusChange(
        status=SessionStatus.DISCONNECTED,
        desired_status=SessionStatus.DISCONNECTED,
        reason=reason,
        drops_codes=True,
        command=None if is_so else NewCommand(action=CommandAction.DISCONNECT),
    )


def report(
    status: SessionStatus, reason: str | None, valid_for_seconds: float | None = None
) -> Callable[[StatusRecord], StatusChange]:
    """Make the decision on an engine's report; it raises InvalidTransition where there is no step.

    The same state again changes nothing, a new reason included only if one is given. What was promised before counts no
    more: with `valid_for_seconds` this report is a promise for so long, without it is none.
    """

    def decide(current: StatusRecord) -> StatusChange:
        check_step(current.status, status)
        same = status is current.status and reason is None
        return StatusChange(
            status=status,
            desired_status=current.desired_status,
            reason=current.reason if same else reason,
            valid_for_seconds=valid_for_seconds,
        )

    return decide


def changes_nothing(current: StatusRecord, change: StatusChange) -> bool:
    """Tell whether the record already says all of that (codes and command aside)."""
    says_the_same = (current.status, current.desired_status, current.reason) == (
        change.status,
        change.desired_status,
        change.reason,
    )
    promises_the_same = change.keeps_promise or (change.valid_for_seconds is None and current.valid_until is None)
    return says_the_same and promises_the_same
