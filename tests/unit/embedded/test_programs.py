"""Copies of programs: whole or not at all, readable for everybody, one version at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from zpmeow.embedded import programs
from zpmeow.embedded.data_folder import DataFolder
from zpmeow.embedded.server_account import current_account


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataFolder]:
    """A data folder on a machine where every package has version 2.0."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.0")
    with DataFolder(path=tmp_path, account=current_account()) as locked:
        yield locked


def _copy_closed_program(whole: Path) -> None:
    whole.mkdir()
    (whole / "program").write_bytes(b"new")
    (whole / "program").chmod(0o700)


def test_copy_is_open_to_all_when_the_original_was_closed(folder: DataFolder) -> None:
    """Whatever the umask of the installation was, the servers' account can run the copy."""
    copy = programs._copy_once("package", folder, _copy_closed_program)

    assert (copy / "program").stat().st_mode & 0o777 == 0o755
    assert copy.stat().st_mode & 0o777 == 0o755


def test_copy_replaces_other_versions_and_leftovers_when_the_package_changed(folder: DataFolder) -> None:
    """Old versions and copies that were cut off do not pile up."""
    for name in ("package-1.0", "unfinished-abc"):
        (folder.path / "programs" / name).mkdir(parents=True)

    copy = programs._copy_once("package", folder, _copy_closed_program)

    assert [path.name for path in copy.parent.iterdir()] == ["package-2.0"]


def test_copy_is_not_made_again_when_it_is_there(folder: DataFolder) -> None:
    """The second start copies nothing."""
    programs._copy_once("package", folder, _copy_closed_program)

    def fail(_: Path) -> None:
        pytest.fail("copied again")

    programs._copy_once("package", folder, fail)


def test_no_half_copy_is_left_when_copying_fails(folder: DataFolder) -> None:
    """A full disk in the middle leaves nothing that the next start would take for whole."""

    def half(whole: Path) -> None:
        whole.mkdir()
        message = "no space left on device"
        raise OSError(message)

    with pytest.raises(OSError, match="no space"):
        programs._copy_once("package", folder, half)

    assert list((folder.path / "programs").iterdir()) == []


def test_version_is_read_when_the_program_prints_it_its_own_way(tmp_path: Path) -> None:
    """PostgreSQL and Redis write their versions differently."""
    said = {"postgres": "postgres (PostgreSQL) 18.4", "redis": "Redis server v=7.0.15 sha=0 bits=64"}
    found = {}
    for name, words in said.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{words}'\n", encoding="utf-8")
        program.chmod(0o755)
        found[name] = programs._version(program)

    assert found == {"postgres": "18.4", "redis": "7.0.15"}
