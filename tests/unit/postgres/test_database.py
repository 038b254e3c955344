"""What a new connection must be before it is used."""

from typing import NamedTuple, cast

import asyncpg
import pytest

from zpmeow.domain.errors import DatabaseUnavailable
from zpmeow.postgres.connections import Connection
from zpmeow.postgres.database import _prepare_for_use


class Version(NamedTuple):
    """A server's version."""

    major: int


class FakeConnection:
    """A connection to a server of some version, which may know no setting."""

    def __init__(self, major: int, *, knows_client_check: bool = True) -> None:
        """Begin with nothing executed."""
        self._version = Version(major)
        self._knows_client_check = knows_client_check
        self.executed: list[str] = []

    def get_server_version(self) -> Version:
        """Tell the version."""
        return self._version

    async def execute(self, sql: str) -> None:
        """Note the statement."""
        self.executed.append(sql)
        if not self._knows_client_check:
            raise asyncpg.InvalidParameterValueError


async def test_a_connection_is_refused_when_the_server_is_too_old() -> None:
    """Operators learn which version they have and which is needed."""
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 12 is too old: 13 or newer is needed"):
        await _prepare_for_use(cast("Connection", FakeConnection(12)))


@pytest.mark.parametrize(("major", "statements"), [(13, 0), (14, 1), (18, 1)])
async def test_the_server_looks_for_its_client_when_it_knows_how(major: int, statements: int) -> None:
    """The setting exists since version 14; before, the statement's own limit is all there is."""
    connection = FakeConnection(major)

    await _prepare_for_use(cast("Connection", connection))

    assert len(connection.executed) == statements


async def test_a_connection_is_used_when_the_servers_platform_cannot_look_for_its_client() -> None:
    """A convenience that the platform lacks is no reason to refuse the database."""
    await _prepare_for_use(cast("Connection", FakeConnection(18, knows_client_check=False)))
