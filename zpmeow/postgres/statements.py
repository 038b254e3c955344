"""The SQL statements, read from `sql/` and completed once, when this module is imported.

In the files, `{session}`, `{status}`, `{qr}` and `{credential}` stand for the columns of a record, from the
tables or parts s, t, q and c, and `{reference}` for the condition that finds the session by its id, its name
or its key's hash, always `$1`. So a reference is resolved by the database, within the statement that uses it.
"""

from collections.abc import Collection, Iterable
from importlib.resources import files
from itertools import chain, combinations
from uuid import UUID

from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference

ReferenceKind = type[SessionReference]

_CONDITIONS: dict[ReferenceKind, str] = {
    ById: "s.id = $1",
    ByName: "s.name = $1",
    ByKeyHash: "s.key_hash = $1",
}
_SESSION = (
    "s.id, s.version, s.name, s.key_hash, s.proxy_url, s.proxy_password IS NOT NULL AS has_proxy_password, "
    "{password} AS proxy_password, s.webhook_url, s.webhook_events, s.created_at, s.updated_at"
)
_SESSION_WITHOUT_SECRETS = _SESSION.format(password="NULL::text")  # noqa: S106  (SQL for "no password")
_SESSION_WITH_SECRETS = _SESSION.format(password="s.proxy_password")  # noqa: S106  (the column's name)
_CHILDREN = {
    Entity.STATUS: ("t", "session_status"),
    Entity.QR: ("q", "session_qr"),
    Entity.CREDENTIAL: ("c", "session_credential"),
}
_COLUMNS = {
    Entity.SESSION: _SESSION_WITHOUT_SECRETS,
    Entity.STATUS: "t.version AS status_version, t.status, t.desired_status, t.reason, t.changed_at, t.valid_until",
    Entity.QR: "q.version AS qr_version, q.code, q.expires_at, q.pairing_code, q.pairing_expires_at",
    Entity.CREDENTIAL: "c.version AS credential_version, c.device_jid, c.paired_at",
}


def _load(name: str, **parts: str) -> str:
    text = (files("zpmeow.postgres") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return text.format(**{entity.value: columns for entity, columns in _COLUMNS.items()}, **parts)


def _for_each_reference(name: str) -> dict[ReferenceKind, str]:
    return {kind: _load(name, reference=condition) for kind, condition in _CONDITIONS.items()}


def _find(condition: str, children: Iterable[Entity], *, with_secrets: bool) -> str:
    wanted = tuple(children)
    session = _SESSION_WITH_SECRETS if with_secrets else _SESSION_WITHOUT_SECRETS
    aliased = [_CHILDREN[entity] for entity in wanted]
    joins = [f"JOIN {table} {alias} ON {alias}.session_id = s.id" for alias, table in aliased]
    return _load(
        "find",
        columns=", ".join([session, *(_COLUMNS[entity] for entity in wanted)]),
        tables=" ".join(["sessions s", *joins]),
        reference=condition,
    )


_COMBINATIONS = [
    frozenset(children)
    for children in chain.from_iterable(combinations(_CHILDREN, count) for count in range(len(_CHILDREN) + 1))
]
FIND = {
    (kind, children, with_secrets): _find(condition, children, with_secrets=with_secrets)
    for kind, condition in _CONDITIONS.items()
    for children in _COMBINATIONS
    for with_secrets in (False, True)
}
"""By kind of reference, entities besides the session, and whether the proxy's password is wanted."""
FIND_MANY = {children: _find("s.id = ANY ($1::uuid[])", children, with_secrets=False) for children in _COMBINATIONS}
"""By entities besides the session. Its argument is made by `several`."""

_PLANNED_FOR = 10  # So many members has an array that the planner does not know: its estimate_array_length().


def several(session_ids: Collection[UUID]) -> list[UUID]:
    """Return the ids, one of them repeated if there are few, so that the statement is not planned anew (ADR 0028)."""
    listed = list(session_ids)
    return listed + listed[:1] * (_PLANNED_FOR - len(listed))


CREATE = _load("create")
UPDATE = _for_each_reference("update")
DELETE = _for_each_reference("delete")
LOCK_SESSION = {
    kind: f"SELECT s.id FROM sessions s WHERE {condition} FOR NO KEY UPDATE"  # noqa: S608  (conditions of this module)
    for kind, condition in _CONDITIONS.items()
}
LOCK_STATUS = _for_each_reference("lock_status")
UPDATE_STATUS = _load("update_status")
DROP_CODES = _load("drop_codes")
DROP_PAIRING_CODE = _load("drop_pairing_code")
PUT_QR = _for_each_reference("put_qr")
PUT_PAIRING_CODE = _for_each_reference("put_pairing_code")
PUT_CREDENTIAL = _for_each_reference("put_credential")
REMOVE_CREDENTIAL = _for_each_reference("remove_credential")
RECENT = _load("recent")
RECORD_SILENCE = _load("record_silence")
HOLDER = "SELECT engine FROM engine_holdings WHERE session_id = $1"
LEAVE_COMMAND = "SELECT leave_command($1, $2, $3)"
TAKE_COMMANDS = _load("take_commands")
END_COMMAND = _load("end_command")
RELEASE_COMMANDS = _load("release_commands")
PRUNE_COMMANDS = _load("prune_commands")
READ_CHANGES = _load("read_changes")
LOG_STATE = _load("log_state")
PRUNE_CHANGES = _load("prune_changes")


def _list(filters: Iterable[str], *, is_short: bool) -> str:
    """Complete the list's statement: its arguments are the limit and those filters, in this order."""
    numbers = {name: f"${number}" for number, name in enumerate(filters, start=2)}
    conditions = []
    if "cursor" in numbers:
        conditions.append(_AFTER.format(cursor=numbers["cursor"]))
    if "status" in numbers:
        conditions.append(_READS_AS.format(status=numbers["status"]))
    if "desired_status" in numbers:
        conditions.append(f"t.desired_status = {numbers['desired_status']}")
    condition = " AND ".join(conditions) or "true"
    if is_short and numbers.keys() <= {"cursor"}:
        return _load("short_page", page=_load("list", condition=condition, limit=str(SHORT_LIMIT)))
    return _load("list", condition=condition, limit="$1")


# A value to the planner, so that the index begins behind it. As a join, the list was read from its beginning: a page of
# a million sessions took 148 ms, 114 times as long as one of a thousand.
_AFTER = (
    "(s.created_at, s.id) > "
    "((SELECT previous.created_at FROM sessions previous WHERE previous.id = {cursor}), {cursor})"
)
# As `StatusRecord.at` has it: a status whose promise has ended is an error.
_READS_AS = (
    "(t.status = {status} AND (t.valid_until > statement_timestamp()) IS NOT FALSE"
    " OR {status} = 'error' AND t.valid_until <= statement_timestamp())"
)
LIST_FILTERS = ("cursor", "status", "desired_status")
_FILTERS = tuple(chain.from_iterable(combinations(LIST_FILTERS, count) for count in range(len(LIST_FILTERS) + 1)))
SHORT_LIMIT = 101
"""A page of the API's usual size, and one more that tells whether there is a next one."""

LIST = {(filters, is_short): _list(filters, is_short=is_short) for filters in _FILTERS for is_short in (True, False)}
"""By the filters that are given, each an argument after the limit, in the order of `LIST_FILTERS`; and by whether the
limit is at most `SHORT_LIMIT`.

Where a status is asked for, short pages are planned anew as well: which plan is good depends on how frequent it is.
"""
