"""The data folder: one owner at a time, and sockets whose paths fit."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zpmeow.embedded.data_folder import SOCKET_PATH_BYTES, DataFolder
from zpmeow.embedded.errors import DataFolderTaken, DataFolderUnusable
from zpmeow.embedded.server_account import current_account


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A locked folder with a short path (pytest's may be long, so a relative one is not used here)."""
    with DataFolder(path=tmp_path, account=current_account()) as locked:
        yield locked


def test_second_lock_is_refused_with_folder_and_pid_when_the_first_is_held(folder: DataFolder) -> None:
    """The message names what is taken and by whom."""
    with pytest.raises(DataFolderTaken) as refused:
        DataFolder(path=folder.path, account=current_account())

    assert str(folder.path) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)


def test_lock_is_free_when_its_holder_closed_it_twice(folder: DataFolder) -> None:
    """Closing twice closes nobody else's file, and the next one gets the folder."""
    folder.close()
    folder.close()

    with DataFolder(path=folder.path, account=current_account()) as again:
        assert again.path == folder.path


def test_lock_is_refused_when_it_is_a_symbolic_link(tmp_path: Path) -> None:
    """Nobody can make the service write its pid into another file."""
    (tmp_path / "lock").symlink_to(tmp_path / "precious")

    with pytest.raises(DataFolderUnusable):
        DataFolder(path=tmp_path, account=current_account())

    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize("name", ["x" * 100, "with, comma", "with space", "with:colon"])
def test_socket_folder_is_short_and_private_when_the_path_does_not_suit(tmp_path: Path, name: str) -> None:
    """Long and unusual paths get a folder elsewhere, which closing removes."""
    path = tmp_path / name
    path.mkdir()

    with DataFolder(path=path, account=current_account()) as folder:
        sockets = folder.socket_folder()
        mode = sockets.stat().st_mode & 0o777
        noted = (path / "run.path").read_text(encoding="utf-8")

    assert len(str(sockets / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_BYTES
    assert mode == 0o700
    assert noted == str(sockets)
    assert not sockets.exists()


def test_socket_folder_is_found_again_when_the_service_was_killed(tmp_path: Path) -> None:
    """The note in the data folder leads to the servers that are still running."""
    path = tmp_path / ("x" * 100)
    path.mkdir()
    killed = DataFolder(path=path, account=current_account())
    sockets = killed.socket_folder()
    assert killed._lock is not None
    os.close(killed._lock)  # What the kernel does for a killed process: the lock goes, the files stay.

    with DataFolder(path=path, account=current_account()) as folder:
        found = folder.socket_folder()

    assert found == sockets


def test_noted_socket_folder_is_not_used_when_others_may_enter_it(tmp_path: Path) -> None:
    """A folder that somebody else put in that place is not trusted."""
    path = tmp_path / ("x" * 100)
    path.mkdir()
    planted = tmp_path / "planted"
    planted.mkdir()
    planted.chmod(0o755)
    (path / "run.path").write_text(str(planted), encoding="utf-8")

    with DataFolder(path=path, account=current_account()) as folder:
        sockets = folder.socket_folder()

    assert sockets != planted
    assert planted.exists()
