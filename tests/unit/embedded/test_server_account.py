"""Which folders an account without rights may reach, worked out from permission bits alone."""

import os
from pathlib import Path

import pytest

from zpmeow.embedded.server_account import ServerAccount, current_account


@pytest.fixture
def stranger() -> ServerAccount:
    """An account that owns nothing and is in no group of this machine."""
    return ServerAccount(uid=61234, gid=61234, name="stranger", is_switched=True)


def test_folder_is_closed_when_one_above_it_is(tmp_path: Path, stranger: ServerAccount) -> None:
    """One closed folder on the way is enough, however open the last one is."""
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o777)
    closed.chmod(0o700)

    assert not stranger.can_enter(inner)


def test_folder_is_open_when_all_let_others_through(stranger: ServerAccount) -> None:
    """The root folder of a machine lets everybody through."""
    assert stranger.can_enter(Path("/"))


def test_owner_bits_decide_when_the_account_owns_the_folder(stranger: ServerAccount, tmp_path: Path) -> None:
    """As in the kernel, bits for others do not help an owner whom the owner's bits shut out."""
    folder = tmp_path / "own"
    folder.mkdir()
    status = folder.stat()
    owner = ServerAccount(uid=status.st_uid, gid=61234, name="owner", is_switched=True)

    folder.chmod(0o007)
    shut_out = owner._has(folder, 0o1)
    folder.chmod(0o700)
    let_in = owner._has(folder, 0o1)

    assert (shut_out, let_in) == (False, True)


def test_program_is_unreadable_when_only_its_owner_may_run_it(stranger: ServerAccount, tmp_path: Path) -> None:
    """A program installed under a umask of 077 is closed, wherever it lies."""
    program = tmp_path / "program"
    program.write_bytes(b"")

    program.chmod(0o700)
    closed = stranger._has(program, 0o5)
    program.chmod(0o755)
    opened = stranger._has(program, 0o5)

    assert (closed, opened) == (False, True)


def test_own_changes_no_owner_when_the_account_is_this_process(tmp_path: Path) -> None:
    """Without root, files stay ours and only their mode is set."""
    file = tmp_path / "file"
    file.write_bytes(b"")

    current_account().own(file, mode=0o600)

    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (os.geteuid(), 0o600)
