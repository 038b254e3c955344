"""Changes to sessions: what is written to which histories, how a caller asks for it, and how SQL does it.

Nearly every change can be made in both ways: whoever writes, a client of either process or somebody with psql, makes
the same changes.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.coherence.history import ANYTHING, Register, Value
from tests.coherence.http_client import Request
from tests.coherence.ledger import KnownSession, Ledger, Slot

OPERATOR_KEY = "operator-key-of-the-coherence-run"
ENGINE_KEY = "engine-key-of-the-coherence-run!!"
_STATUSES = ("connecting", "error", "disconnected")
"""What an engine may report at any time: the other one follows upon connecting alone."""


@dataclass(slots=True, frozen=True)
class Statement:
    """One SQL statement and its arguments."""

    sql: str
    arguments: tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class Change:
    """One change to one session.

    Attributes:
        kind: for the report.
        writes: the histories and their new values.
        names, keys: which of them are in doubt if its outcome stays unknown.
        request: how a client of a service asks for it; None: only SQL does it.
        statements: how SQL does it; none: only a client of a service does it.
        finish: what is noted when it is done, from the answer's data (or the last row), with the time and by whom.
        needs_no_row: it is done, too, if there was no row to change.
        is_structural: it changes existence, name or key; only with the slot's lock.
    """

    kind: str
    slot: Slot
    writes: Sequence[tuple[Register, Value]]
    request: Request | None
    statements: Sequence[Statement]
    finish: Callable[[dict[str, Any], float, str], None] = field(default=lambda _data, _at, _by: None)
    names: Sequence[str] = ()
    keys: Sequence[str] = ()
    needs_no_row: bool = False
    is_structural: bool = False


def change_value(ledger: Ledger, slot: Slot, session: KnownSession, value: str, chance: random.Random) -> Change:
    """Write the next number to one of the values of a session."""
    number = str(ledger.next_number())
    make = {"webhook": _webhook, "status": _status, "qr": _qr, "device": _device}[value]
    return make(slot, session, number, chance)


def _webhook(slot: Slot, session: KnownSession, number: str, chance: random.Random) -> Change:
    webhook = {"url": f"https://hooks.test/{number}", "events": ["message"]}
    if chance.random() < 0.5:
        request = Request(method="PATCH", path=f"/sessions/{session.id}", key=OPERATOR_KEY, body={"webhook": webhook})
    else:
        request = Request(method="PUT", path=f"/sessions/{session.id}/webhook", key=slot.key, body=webhook)
    return Change(
        kind="webhook",
        slot=slot,
        writes=[(session.values["webhook"], number)],
        request=request,
        statements=[
            Statement(
                "UPDATE sessions SET webhook_url = $2, webhook_events = '{message}' WHERE id = $1 RETURNING id",
                (session.id, webhook["url"]),
            )
        ],
    )


def _status(slot: Slot, session: KnownSession, number: str, chance: random.Random) -> Change:
    status = chance.choice(_STATUSES)
    body = {"status": status, "reason": number}
    return Change(
        kind="status",
        slot=slot,
        writes=[(session.values["status"], number)],
        request=Request(method="PUT", path=f"/sessions/{session.id}/status", key=ENGINE_KEY, body=body),
        statements=[
            Statement(
                "UPDATE session_status SET status = $2, reason = $3, changed_at = clock_timestamp()"
                " WHERE session_id = $1 RETURNING session_id AS id",
                (session.id, status, number),
            )
        ],
    )


def _qr(slot: Slot, session: KnownSession, number: str, _chance: random.Random) -> Change:
    code = f"code {number}"
    body = {"qr_code": code, "expires_in": 3600}
    return Change(
        kind="qr",
        slot=slot,
        writes=[(session.values["qr"], number)],
        request=Request(method="PUT", path=f"/sessions/{session.id}/qr", key=ENGINE_KEY, body=body),
        statements=[
            Statement(
                "UPDATE session_qr SET code = $2, expires_at = clock_timestamp() + interval '1 hour'"
                " WHERE session_id = $1 RETURNING session_id AS id",
                (session.id, code),
            )
        ],
    )


def _device(slot: Slot, session: KnownSession, number: str, chance: random.Random) -> Change:
    """Store a device, which drops the code; or remove it."""
    path = f"/sessions/{session.id}/credentials"
    if chance.random() < 0.3:
        return Change(
            kind="device removal",
            slot=slot,
            writes=[(session.values["device"], None)],
            request=Request(method="DELETE", path=path, key=ENGINE_KEY),
            statements=[
                Statement(
                    "UPDATE session_credential SET device_jid = NULL, paired_at = NULL"
                    " WHERE session_id = $1 RETURNING session_id AS id",
                    (session.id,),
                )
            ],
        )
    jid = f"{number}@devices.test"
    return Change(
        kind="device",
        slot=slot,
        writes=[(session.values["device"], number), (session.values["qr"], None)],
        request=Request(method="PUT", path=path, key=ENGINE_KEY, body={"device_jid": jid}),
        statements=[
            Statement(
                "UPDATE session_qr SET code = NULL, expires_at = NULL WHERE session_id = $1 RETURNING session_id AS id",
                (session.id,),
            ),
            Statement(
                "UPDATE session_credential SET device_jid = $2, paired_at = clock_timestamp()"
                " WHERE session_id = $1 RETURNING session_id AS id",
                (session.id, jid),
            ),
        ],
    )


def rename(ledger: Ledger, slot: Slot, session: KnownSession, chance: random.Random) -> Change:
    """Give the session another name."""
    old, new = slot.name, ledger.new_name(slot, chance)

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        slot.past_names.append(old)
        slot.name = new

    return Change(
        kind="rename",
        slot=slot,
        writes=[(ledger.name(old), None), (ledger.name(new), session.id), (session.name, new)],
        request=Request(method="PATCH", path=f"/sessions/{session.id}", key=OPERATOR_KEY, body={"name": new}),
        statements=[Statement("UPDATE sessions SET name = $2 WHERE id = $1 RETURNING id", (session.id, new))],
        finish=finish,
        names=(old, new),
        is_structural=True,
    )


def rotate_key(ledger: Ledger, slot: Slot, session: KnownSession) -> Change:
    """Give the session another key, as a service does it: the answer tells the key."""
    old = slot.key

    def finish(data: dict[str, Any], at: float, by: str) -> None:
        new: str = data["api_key"]
        opens = ledger.key(new)
        opens.acknowledge(opens.begin(session.id, at=at, by=by), at=at)
        slot.past_keys.append(old)
        slot.key = new

    return Change(
        kind="key rotation",
        slot=slot,
        writes=[(ledger.key(old), None)],
        request=Request(method="POST", path=f"/sessions/{session.id}/rotate-key", key=OPERATOR_KEY),
        statements=[],
        finish=finish,
        keys=(old,),
        is_structural=True,
    )


def replace_key(ledger: Ledger, slot: Slot, session: KnownSession) -> Change:
    """Give the session another key, as somebody with SQL does it, who brings the key."""
    old, new = slot.key, ledger.new_key()

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        slot.past_keys.append(old)
        slot.key = new

    return Change(
        kind="key rotation",
        slot=slot,
        writes=[(ledger.key(old), None), (ledger.key(new), session.id)],
        request=None,
        statements=[
            Statement("UPDATE sessions SET key_hash = $2 WHERE id = $1 RETURNING id", (session.id, key_hash(new)))
        ],
        finish=finish,
        keys=(old, new),
        is_structural=True,
    )


def delete(ledger: Ledger, slot: Slot, session: KnownSession) -> Change:
    """Remove the session."""

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        forget(slot)

    return Change(
        kind="delete",
        slot=slot,
        writes=[(session.exists, None), (ledger.name(slot.name), None), (ledger.key(slot.key), None)],
        request=Request(method="DELETE", path=f"/sessions/{session.id}/delete", key=OPERATOR_KEY),
        statements=[Statement("DELETE FROM sessions WHERE id = $1 RETURNING id", (session.id,))],
        finish=finish,
        names=(slot.name,),
        keys=(slot.key,),
        is_structural=True,
    )


def create(ledger: Ledger, slot: Slot, chance: random.Random) -> Change:
    """Make a session in an empty slot, under the slot's last name as a rule."""
    name = slot.name if chance.random() < 0.7 else ledger.new_name(slot, chance)
    key = ledger.new_key()

    def finish(data: dict[str, Any], at: float, by: str) -> None:
        session_id = made_id(data)
        slot.session = ledger.sessions[session_id] = KnownSession(session_id, name=name, at=at, by=by)
        slot.name, slot.key = name, key

    return Change(
        kind="create",
        slot=slot,
        writes=[(ledger.name(name), ANYTHING), (ledger.key(key), ANYTHING)],
        request=Request(method="POST", path="/sessions/create", key=OPERATOR_KEY, body={"name": name, "api_key": key}),
        statements=[
            Statement("INSERT INTO sessions (name, key_hash) VALUES ($1, $2) RETURNING id", (name, key_hash(key)))
        ],
        finish=finish,
        names=(name,),
        keys=(key,),
        is_structural=True,
    )


def made_id(data: dict[str, Any]) -> str:
    """Return the id of a session that was made: from a service's answer, or from a row."""
    return str(data["session"]["id"] if "session" in data else data["id"])


def forget(slot: Slot) -> None:
    """Empty the slot; what led to its session is remembered as past."""
    assert slot.session is not None
    slot.past_ids.append(slot.session.id)
    slot.past_names.append(slot.name)
    slot.past_keys.append(slot.key)
    slot.session = None


def key_hash(key: str) -> bytes:
    """Return what the database keeps of a key."""
    return hashlib.sha256(key.encode()).digest()
