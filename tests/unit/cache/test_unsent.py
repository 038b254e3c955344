"""Unsent changes: the newest of each key is kept until it is confirmed."""

from zpmeow.cache.tier import Entry
from zpmeow.cache.unsent import Change, UnsentChanges


def change(key: str, version: int) -> Change:
    """Make a change of this key."""
    return Change(Entry(key=key, envelope=b"", lifetime_seconds=600), version)


def test_noted_change_makes_older_entries_unbelievable() -> None:
    """What the tier may still have below a noted change is not served."""
    unsent = UnsentChanges()

    unsent.note([change("a", 7)])

    assert not unsent.allows("a", 6)
    assert unsent.allows("a", 7)
    assert unsent.allows("b", 1)


def test_newest_change_is_kept_whatever_the_order() -> None:
    """A change that comes late does not replace a newer one."""
    unsent = UnsentChanges()
    newer, older = change("a", 8), change("a", 7)

    unsent.note([newer])
    unsent.note([older])

    assert list(unsent.oldest(10)) == [newer]


def test_strike_keeps_a_newer_change_of_the_same_key() -> None:
    """Confirming an old change does not lose the one noted meanwhile."""
    unsent = UnsentChanges()
    older, newer = change("a", 7), change("a", 8)
    unsent.note([older])
    unsent.note([newer])

    unsent.strike([older])

    assert list(unsent.oldest(10)) == [newer]


def test_oldest_come_first_and_are_bounded() -> None:
    """They are sent in the order in which they were noted, some at a time."""
    unsent = UnsentChanges()
    unsent.note([change("a", 1), change("b", 2), change("c", 3)])

    assert [one.entry.key for one in unsent.oldest(2)] == ["a", "b"]


def test_overflow_is_told_and_ends_when_all_is_void() -> None:
    """A change that could not be remembered is never forgotten silently."""
    unsent = UnsentChanges(max_unsent=1)

    unsent.note([change("a", 1), change("b", 2)])

    overflown = [unsent.overflown]
    unsent.clear()
    overflown.append(unsent.overflown)
    assert overflown == [True, False]
    assert len(unsent) == 0
