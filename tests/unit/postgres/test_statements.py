"""The statements are complete when they are imported."""

import re

from zpmeow.domain.records import Entity
from zpmeow.domain.references import ById, ByKeyHash, ByName
from zpmeow.postgres import statements


def test_find_joins_the_tables_asked_for_when_there_are_fewer_than_all() -> None:
    """A read costs what was asked for: one statement for each combination, each joining exactly its tables."""
    tables = {Entity.STATUS: "session_status", Entity.QR: "session_qr", Entity.CREDENTIAL: "session_credential"}

    for (_kind, entities, _with_secrets), sql in statements.FIND.items():
        joined = set(re.findall(r"JOIN (\w+)", sql))

        assert joined == {tables[entity] for entity in entities}
    assert len(statements.FIND) == 3 * 8 * 2
    assert {kind for kind, _entities, _with_secrets in statements.FIND} == {ById, ByName, ByKeyHash}


def test_find_reads_the_password_when_secrets_are_asked_for_and_else_never() -> None:
    """The proxy's password does not leave the database unless somebody wants it."""
    for (_kind, _entities, with_secrets), sql in statements.FIND.items():
        assert ("s.proxy_password AS proxy_password" in sql) == with_secrets
