"""Clears up, by SQL, what writes of unknown outcome have left open.

A value that stands in the database was committed, whoever was not told so: from then on nobody may show an older one.
A session whose name, key or existence is in doubt gets a new name and key, or is found to be gone, once nothing can be
under way any more.
"""

import asyncio
from typing import Any

from tests.coherence.changes import Change, Statement, forget, key_hash
from tests.coherence.history import Register, Value
from tests.coherence.ledger import Doubt, KnownSession, Ledger, Slot
from tests.coherence.outsiders import apply
from tests.coherence.sql_client import DatabaseAwayError, SqlClient
from tests.coherence.writing import Pen

_LOOK_SECONDS = 0.025
_MEND_SECONDS = 0.5
_LOOK = """
    SELECT replace(s.webhook_url, 'https://hooks.test/', '') AS webhook, t.reason AS status,
           replace(q.code, 'code ', '') AS qr, replace(c.device_jid, '@devices.test', '') AS device
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE s.id = $1
"""


async def look_into_unknown_writes(client: SqlClient, pen: Pen) -> None:
    """Ask the database, for ever, what became of values whose writers were not told."""
    court = pen.court
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        while court.ledger.in_question:
            try:
                await _look(client, pen, court.ledger.in_question[0])
            except DatabaseAwayError:
                break
            court.ledger.in_question.popleft()


async def end_doubts(client: SqlClient, pen: Pen) -> None:
    """Mend, for ever, what is in doubt."""
    court = pen.court
    while True:
        await asyncio.sleep(_MEND_SECONDS)
        for slot in court.ledger.slots:
            if slot.doubt is not None and slot.doubt.until < court.clock():
                async with slot.lock:
                    await _end_doubt(client, pen, slot, slot.doubt)


async def _look(client: SqlClient, pen: Pen, session: KnownSession) -> None:
    for row in await client.fetch(_LOOK, session.id):
        now = pen.court.clock()
        for value, shown in row.items():
            session.values[value].saw(shown, at=now)


async def _end_doubt(client: SqlClient, pen: Pen, slot: Slot, doubt: Doubt) -> None:
    ledger = pen.court.ledger
    if slot.session is None:
        await apply(client, pen, [_remove_made(ledger, slot, doubt)])
        return
    try:
        found = await client.fetch("SELECT id FROM sessions WHERE id = $1", slot.session.id)
    except DatabaseAwayError:
        return
    make = _name_anew if found else _find_gone
    await apply(client, pen, [make(ledger, slot, doubt, slot.session)])


def _name_anew(ledger: Ledger, slot: Slot, doubt: Doubt, session: KnownSession) -> Change:
    """Give a living session a name and a key that were never in doubt."""
    name, key = f"slot-{slot.number}-{ledger.next_number()}", ledger.new_key()
    names, keys = doubt.names | {slot.name}, doubt.keys | {slot.key}

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        slot.past_names.extend(sorted(names))
        slot.past_keys.extend(sorted(keys))
        slot.name, slot.key, slot.doubt = name, key, None

    return Change(
        kind="mending",
        slot=slot,
        writes=[
            *_none_of(ledger, names, keys),
            (session.exists, session.id),
            (session.name, name),
            (ledger.name(name), session.id),
            (ledger.key(key), session.id),
        ],
        request=None,
        statements=[
            Statement(
                "UPDATE sessions SET name = $2, key_hash = $3 WHERE id = $1 RETURNING id",
                (session.id, name, key_hash(key)),
            )
        ],
        finish=finish,
        names=(name, *names),
        keys=(key, *keys),
        is_structural=True,
    )


def _find_gone(ledger: Ledger, slot: Slot, doubt: Doubt, session: KnownSession) -> Change:
    """Note that the session was deleted after all; the database has nothing to do for that."""

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        forget(slot)
        slot.doubt = None

    return Change(
        kind="mending",
        slot=slot,
        writes=[
            *_none_of(ledger, doubt.names | {slot.name}, doubt.keys | {slot.key}),
            (session.exists, None),
        ],
        request=None,
        statements=[],
        finish=finish,
        needs_no_row=True,
        is_structural=True,
    )


def _remove_made(ledger: Ledger, slot: Slot, doubt: Doubt) -> Change:
    """Delete what may have been made in an empty slot; nobody was told its id."""

    def finish(_data: dict[str, Any], _at: float, _by: str) -> None:
        slot.doubt = None

    return Change(
        kind="mending",
        slot=slot,
        writes=_none_of(ledger, doubt.names, doubt.keys),
        request=None,
        statements=[Statement("DELETE FROM sessions WHERE name = ANY($1)", (sorted(doubt.names),))],
        finish=finish,
        needs_no_row=True,
        is_structural=True,
    )


def _none_of(ledger: Ledger, names: set[str], keys: set[str]) -> list[tuple[Register, Value]]:
    """Write that none of these names and keys leads anywhere."""
    led = [ledger.name(name) for name in sorted(names)] + [ledger.key(key) for key in sorted(keys)]
    return [(register, None) for register in led]
