"""The SQL statements, read from `sql/` and completed once, when this module is imported.

In the files, `{session}`, `{status}`, `{qr}` and `{credential}` stand for the columns of a record, from the
tables or parts s, t, q and c, and `{reference}` for the condition that finds the session by its id, its name
or its key's hash, always `$1`. So a reference is resolved by the database, within the statement that uses it.
"""

from collections.abc import Iterable
from importlib.resources import files
from itertools import chain, combinations

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
    Entity.STATUS: "t.version AS status_version, t.status, t.desired_status, t.reason, t.changed_at",
    Entity.QR: "q.version AS qr_version, q.code, q.expires_at",
    Entity.CREDENTIAL: "c.version AS credential_version, c.device_jid, c.paired_at",
}


def _load(name: str, **parts: str) -> str:
    text = (files("zpmeow.postgres") / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return text.format(**{entity.value: columns for entity, columns in _COLUMNS.items()}, **parts)


def _for_each_reference(name: str) -> dict[ReferenceKind, str]:
    return {kind: _load(name, reference=condition) for kind, condition in _CONDITIONS.items()}


def _find(kind: ReferenceKind, children: Iterable[Entity], *, with_secrets: bool) -> str:
    wanted = tuple(children)
    session = _SESSION_WITH_SECRETS if with_secrets else _SESSION_WITHOUT_SECRETS
    aliased = [_CHILDREN[entity] for entity in wanted]
    joins = [f"JOIN {table} {alias} ON {alias}.session_id = s.id" for alias, table in aliased]
    return _load(
        "find",
        columns=", ".join([session, *(_COLUMNS[entity] for entity in wanted)]),
        tables=" ".join(["sessions s", *joins]),
        reference=_CONDITIONS[kind],
    )


FIND = {
    (kind, frozenset(children), with_secrets): _find(kind, children, with_secrets=with_secrets)
    for kind in _CONDITIONS
    for children in chain.from_iterable(combinations(_CHILDREN, count) for count in range(len(_CHILDREN) + 1))
    for with_secrets in (False, True)
}
"""By kind of reference, entities besides the session, and whether the proxy's password is wanted."""

CREATE = _load("create")
UPDATE = _for_each_reference("update")
DELETE = _for_each_reference("delete")
LOCK_STATUS = _for_each_reference("lock_status")
UPDATE_STATUS = _load("update_status")
DROP_QR = _load("drop_qr")
PUT_QR = _for_each_reference("put_qr")
PUT_CREDENTIAL = _for_each_reference("put_credential")
REMOVE_CREDENTIAL = _for_each_reference("remove_credential")
RECENT = _load("recent")
FIND_MANY = _load("find_many")
READ_CHANGES = _load("read_changes")
LOG_STATE = _load("log_state")
PRUNE_CHANGES = _load("prune_changes")


def _list(*, after: bool, by_status: bool) -> str:
    tables, conditions = "sessions s", []
    if after:
        tables = "sessions previous JOIN sessions s ON (s.created_at, s.id) > (previous.created_at, previous.id)"
        conditions.append("previous.id = $2")
    if by_status:
        conditions.append("t.status = $3" if after else "t.status = $2")
    return _load("list", tables=tables, condition=" AND ".join(conditions) or "true")


LIST = {
    (after, by_status): _list(after=after, by_status=by_status)
    for after in (False, True)
    for by_status in (False, True)
}
"""By whether there is a cursor (`$2`), and whether there is a status (the last argument). `$1` is the limit."""
