"""The state machine, step by step."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from zpmeow.domain.commands import CommandAction, NewCommand
from zpmeow.domain.errors import AlreadyConnected, InvalidTransition
from zpmeow.domain.records import SessionStatus, StatusRecord
from zpmeow.domain.transitions import changes_nothing, connect, disconnect, pair, report

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

    assert (change.status, change.desired_status, change.drops_codes) == (D, D, True)


@pytest.mark.parametrize("promised", [None, datetime(2026, 1, 2, tzinfo=UTC)])
def test_report_of_the_same_status_renews_its_promise(promised: datetime | None) -> None:
    """A heartbeat changes nothing but until when it holds; that is a change all the same."""
    current = replace(record(K, reason="paired"), valid_until=promised)

    change = report(K, None, 30)(current)

    assert (change.status, change.reason, change.valid_for_seconds) == (K, "paired", 30)
    assert not changes_nothing(current, change)


def test_report_without_a_promise_ends_the_promise_before() -> None:
    """An engine that promises nothing any more is never called silent."""
    current = replace(record(K), valid_until=datetime(2026, 1, 2, tzinfo=UTC))

    assert not changes_nothing(current, report(K, None)(current))


def test_connect_keeps_the_promise_of_an_engine_that_is_connecting() -> None:
    """The owner's wish is no report: what the engine promised still holds."""
    current = replace(record(C), desired_status=K, valid_until=datetime(2026, 1, 2, tzinfo=UTC))

    change = connect(current)

    assert change.keeps_promise
    assert changes_nothing(current, change)


@pytest.mark.parametrize("current", [D, E])
def test_connect_promises_nothing_when_no_engine_is_connecting(current: SessionStatus) -> None:
    """A wish alone does not fall silent."""
    change = connect(replace(record(current), valid_until=datetime(2026, 1, 2, tzinfo=UTC)))

    assert (change.valid_for_seconds, change.keeps_promise) == (None, False)


@pytest.mark.parametrize(
    ("current", "wish", "promised", "leaves"),
    [
        (D, D, False, True),
        (E, K, False, True),
        (C, K, False, True),
        (C, K, True, False),
        (C, D, True, True),
        (E, K, True, True),
    ],
)
def test_connect_leaves_a_command_unless_an_engine_promises_to_be_at_it(
    current: SessionStatus, wish: SessionStatus, *, promised: bool, leaves: bool
) -> None:
    """Asked for twice, a connection is not begun by two engines; after a wish to disconnect it is asked for anew."""
    before = replace(
        record(current), desired_status=wish, valid_until=datetime(2026, 1, 2, tzinfo=UTC) if promised else None
    )

    assert (connect(before).command is not None) is leaves


def test_pair_leaves_a_command_though_an_engine_is_connecting() -> None:
    """The engine that shows a QR code does not know the telephone yet."""
    before = replace(record(C), valid_until=datetime(2026, 1, 2, tzinfo=UTC))

    change = pair("5511999999999")(before)

    assert change.command == NewCommand(action=CommandAction.PAIR, phone="5511999999999")
    assert (change.status, change.desired_status, change.drops_pairing_code) == (C, K, True)
