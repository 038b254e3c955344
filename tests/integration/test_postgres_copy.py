"""Copies of a running PostgreSQL, from which standbys start."""

import tempfile
from pathlib import Path

import pytest

from tests.servers.postgres_server import PostgresInstallation
from tests.servers.processes import ServerFailedError, free_port


def test_nothing_is_left_on_the_disk_when_a_copy_fails(
    postgres_installation: PostgresInstallation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The data folder of a copy that nobody can use is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with pytest.raises(ServerFailedError, match="pg_basebackup ended"):
        postgres_installation.copy_of(free_port())

    assert not list(tmp_path.iterdir())
