"""Which migrations are still to be applied, and when that question has no good answer."""

import pytest

from zpmeow.postgres.migrations import (
    AppliedMigration,
    Migration,
    MigrationError,
    load_migrations,
    parse_migration,
    pending_migrations,
)


def known(*versions: int) -> list[Migration]:
    """Make migrations that this code has files of."""
    return [Migration(version=version, name="step", works_with=1, sql="SELECT 1") for version in versions]


def applied(*versions: int, works_with: int = 1) -> list[AppliedMigration]:
    """Make the lines that those leave."""
    return [
        AppliedMigration(version=each.version, name=each.name, checksum=each.checksum, works_with=works_with)
        for each in known(*versions)
    ]


def test_the_files_are_read_in_order_when_they_are_loaded() -> None:
    """The release's files have numbers without gaps, from 1, and say with which level they work."""
    loaded = load_migrations()

    assert [migration.version for migration in loaded] == list(range(1, len(loaded) + 1))
    assert loaded[0].name == "sessions"
    assert all(migration.works_with <= migration.version for migration in loaded)


@pytest.mark.parametrize(("done", "pending"), [([], [1, 2, 3]), ([1], [2, 3]), ([1, 2, 3], []), ([1, 2, 3, 4], [])])
def test_what_is_missing_is_pending_when_the_rest_was_applied(done: list[int], pending: list[int]) -> None:
    """Everything that was not applied, in order; what only a newer release knows is left alone."""
    found = pending_migrations(known(1, 2, 3), applied(*done))

    assert [migration.version for migration in found] == pending


def test_the_database_is_refused_when_it_needs_newer_code() -> None:
    """Code of level 3 does not touch a database that only level 4 understands."""
    with pytest.raises(MigrationError, match="needs code of schema level 4 or above, this is level 3"):
        pending_migrations(known(1, 2, 3), [*applied(1, 2, 3), *applied(4, works_with=4)])


def test_the_database_is_refused_when_one_of_several_unknown_ones_needs_newer_code() -> None:
    """The last migration may be harmless: each counts."""
    lines = [*applied(1), *applied(2, works_with=2), *applied(3, works_with=1)]

    with pytest.raises(MigrationError, match="migration 0002_step is unknown here"):
        pending_migrations(known(1), lines)


def test_the_database_is_refused_when_a_migration_was_skipped() -> None:
    """Migrations are applied in order or not at all."""
    with pytest.raises(MigrationError, match="0002_step was never applied"):
        pending_migrations(known(1, 2, 3), applied(1, 3))


def test_the_checksum_stays_when_only_line_ends_change() -> None:
    """A checkout with other line ends, or an editor that trims, changes nothing."""
    unix = parse_migration(1, "step", "-- works-with: 1\nSELECT 1;  \n\nSELECT 2;\n")
    windows = parse_migration(1, "step", "-- works-with: 1\r\nSELECT 1;\r\n\r\nSELECT 2;")
    other = parse_migration(1, "step", "-- works-with: 1\nSELECT 1;\n\nSELECT 3;\n")

    assert unix.checksum == windows.checksum != other.checksum
    assert unix.works_with == windows.works_with == 1


def test_a_migration_works_with_its_own_code_alone_when_it_says_nothing() -> None:
    """Compatibility is a promise, so it has to be made."""
    assert parse_migration(7, "step", "SELECT 1;\n-- works-with: 1\n").works_with == 7


LANDED = {
    1: "0f1f7a9690159bdd",
    2: "81a3188bc52d4010",
    3: "08021575c72d329c",
    4: "f7b16f095cba569e",
    5: "cc2f39bb15246fde",
    6: "49787aa62681e407",
}
"""The first digits of their checksums; a new migration is added here when it lands, and no line is ever changed."""


def test_landed_migrations_are_as_they_were_applied() -> None:
    """Not even their comments change: a database that has one refuses to start with another."""
    assert {one.version: one.checksum[:16] for one in load_migrations()} == LANDED
