"""The tier inside the process: bounded in bytes and in time, and never older than what it was given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zpmeow.cache.local_tier import NEGATIVE_SECONDS, LocalTier

ENTRY_BYTES = 500  # What an entry costs besides its value.


class FakeTime:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        """Start at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def time() -> FakeTime:
    """The clock of the tier."""
    return FakeTime()


@pytest.fixture
def tier(time: FakeTime) -> LocalTier:
    """A tier with room for three entries without weight."""
    return LocalTier(max_bytes=3 * ENTRY_BYTES, ttl_seconds=5, monotonic=time)


def put(tier: LocalTier, key: str, version: int = 1, *, size_bytes: int = 0) -> None:
    """Keep a value that says its key and version."""
    tier.put(key, f"{key}{version}", version=version, size_bytes=size_bytes)


def value(tier: LocalTier, key: str) -> object:
    """Return what is kept under the key; "nothing" if nothing is."""
    entry = tier.get(key)
    return "nothing" if entry is None else entry.value


def test_value_is_found_until_its_time_is_over_when_it_was_put(tier: LocalTier, time: FakeTime) -> None:
    """It is there for the tier's time, and not a moment longer."""
    put(tier, "a")

    found = []
    for time.now in (0.0, 4.999, 5.0):
        found.append(value(tier, "a"))

    assert found == ["a1", "a1", "nothing"]


@pytest.mark.parametrize(("seconds", "kept_seconds"), [(2.0, 2.0), (5.0, 5.0), (60.0, 5.0)])
def test_value_is_kept_for_the_shorter_time_when_it_has_one_of_its_own(
    tier: LocalTier, time: FakeTime, seconds: float, kept_seconds: float
) -> None:
    """A value that ends earlier than the tier's time ends then; none is kept for longer."""
    tier.put("a", "value", version=1, size_bytes=0, seconds=seconds)

    time.now = kept_seconds - 0.001
    before = value(tier, "a")
    time.now = kept_seconds

    assert (before, value(tier, "a")) == ("value", "nothing")


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_nothing_is_kept_when_the_value_has_ended_already(tier: LocalTier, seconds: float) -> None:
    """What is past its time when it comes is not put."""
    tier.put("a", "value", version=1, size_bytes=0, seconds=seconds)

    assert (value(tier, "a"), len(tier)) == ("nothing", 0)


def test_time_begins_anew_when_a_value_is_put_again(tier: LocalTier, time: FakeTime) -> None:
    """The time counts from the last put; reading does not lengthen it."""
    put(tier, "a")
    time.now = 4.0
    put(tier, "a")

    found = []
    for time.now in (8.0, 9.0):
        found.append(value(tier, "a"))

    assert found == ["a1", "nothing"]


@pytest.mark.parametrize(("version", "expected"), [(6, "a7"), (7, "again"), (8, "again")])
def test_newest_version_wins_when_values_come_out_of_order(tier: LocalTier, version: int, expected: str) -> None:
    """An older value does not replace a newer one; the same version may be put again."""
    put(tier, "a", 7)

    tier.put("a", "again", version=version, size_bytes=0)

    assert value(tier, "a") == expected


@pytest.mark.parametrize(("below", "expected"), [(6, "a7"), (7, "a7"), (8, "nothing")])
def test_value_is_dropped_when_it_is_below_the_version(tier: LocalTier, below: int, expected: str) -> None:
    """A change drops what is older than itself, and nothing else."""
    put(tier, "a", 7)
    put(tier, "b", 1)

    tier.drop_below("a", below)
    tier.drop_below("unknown", 99)

    assert (value(tier, "a"), value(tier, "b")) == (expected, "b1")


def test_absence_is_kept_and_dropped_by_any_change_when_it_was_put(tier: LocalTier) -> None:
    """That there is no such thing is an entry of its own, and has no version that could be new enough."""
    tier.put("a", None, version=0, size_bytes=0, seconds=NEGATIVE_SECONDS)
    absent = value(tier, "a")

    tier.drop_below("a", 0)

    assert (absent, value(tier, "a")) == (None, "nothing")


def test_absence_gives_way_when_a_value_is_put(tier: LocalTier) -> None:
    """And does not come in its place: it has no version."""
    tier.put("a", None, version=0, size_bytes=0)

    put(tier, "a", 1)
    tier.put("a", None, version=0, size_bytes=0)

    assert value(tier, "a") == "a1"


def test_absence_ends_after_a_second_when_nothing_changes(tier: LocalTier, time: FakeTime) -> None:
    """A second is what somebody waits who was told of a new thing by other means."""
    tier.put("a", None, version=0, size_bytes=0, seconds=NEGATIVE_SECONDS)

    found = []
    for time.now in (0.999, 1.0):
        found.append(value(tier, "a"))

    assert found == [None, "nothing"]


def test_least_recently_used_goes_when_the_bytes_are_used_up(tier: LocalTier) -> None:
    """Reading counts as use."""
    for key in "abc":
        put(tier, key)
    tier.get("a")

    put(tier, "d")

    assert [value(tier, key) for key in "abcd"] == ["a1", "nothing", "c1", "d1"]


def test_several_go_when_a_large_value_comes(tier: LocalTier) -> None:
    """Bytes are counted, not entries."""
    for key in "abc":
        put(tier, key)

    put(tier, "d", size_bytes=ENTRY_BYTES)

    assert [value(tier, key) for key in "abcd"] == ["nothing", "nothing", "c1", "d1"]
    assert tier.used_bytes == 3 * ENTRY_BYTES


def test_value_is_not_kept_when_it_is_larger_than_the_tier(tier: LocalTier) -> None:
    """It throws nothing else out either."""
    put(tier, "a")

    put(tier, "b", size_bytes=3 * ENTRY_BYTES)

    assert (value(tier, "a"), value(tier, "b")) == ("a1", "nothing")


def test_dropped_entries_make_room_when_others_come(tier: LocalTier) -> None:
    """drop, drop_below and clear give the bytes back."""
    for key in "abc":
        put(tier, key)

    tier.drop("a")
    tier.drop("unknown")
    tier.drop_below("b", 2)
    after_drops = (tier.used_bytes, len(tier))
    tier.clear()

    assert after_drops == (ENTRY_BYTES, 1)
    assert (tier.used_bytes, len(tier)) == (0, 0)


@pytest.mark.parametrize(("max_bytes", "ttl_seconds"), [(0, 5.0), (100_000, 0.0), (0, 0.0)])
def test_nothing_is_kept_when_bytes_or_time_are_zero(max_bytes: int, ttl_seconds: float) -> None:
    """Zero turns the tier off."""
    tier = LocalTier(max_bytes=max_bytes, ttl_seconds=ttl_seconds)

    put(tier, "a")
    tier.put("b", None, version=0, size_bytes=0, seconds=NEGATIVE_SECONDS)

    assert not tier.is_on
    assert (value(tier, "a"), value(tier, "b"), len(tier)) == ("nothing", "nothing", 0)


def test_tier_is_on_when_bytes_and_time_are_given(tier: LocalTier) -> None:
    """Its users can tell whether it is worth asking."""
    assert tier.is_on


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "get", "drop", "drop_below", "pass"]),
        st.sampled_from("abcdefgh"),
        st.integers(0, 9),
        st.integers(0, 1500),
    ),
    max_size=80,
)


@given(max_bytes=st.integers(1, 4_000), steps=operations)
def test_bytes_stay_within_the_bound_whatever_is_done(max_bytes: int, steps: list[tuple[str, str, int, int]]) -> None:
    """After every step the tier weighs no more than it may, and in the end exactly what its entries weigh."""
    time = FakeTime()
    tier = LocalTier(max_bytes=max_bytes, ttl_seconds=5, monotonic=time)

    for what, key, number, size_bytes in steps:
        match what:
            case "put":
                put(tier, key, number, size_bytes=size_bytes)
            case "drop":
                tier.drop(key)
            case "drop_below":
                tier.drop_below(key, number)
            case "pass":
                time.now += number
            case _:
                tier.get(key)
        assert tier.used_bytes <= max_bytes

    entries = [entry for key in "abcdefgh" if (entry := tier.get(key)) is not None]
    assert tier.used_bytes == sum(entry.size_bytes for entry in entries)
    assert len(tier) == len(entries)


@given(steps=operations)
def test_version_never_goes_back_while_something_is_kept_whatever_is_done(
    steps: list[tuple[str, str, int, int]],
) -> None:
    """As long as a key is never without a value, its version only grows."""
    time = FakeTime()
    tier = LocalTier(max_bytes=100_000, ttl_seconds=5, monotonic=time)
    last: dict[str, int] = {}

    for what, key, number, _ in steps:
        match what:
            case "put":
                put(tier, key, number)
            case "drop":
                tier.drop(key)
            case "drop_below":
                tier.drop_below(key, number)
            case _:
                time.now += number / 4
        kept = {name: entry.version for name in "abcdefgh" if (entry := tier.get(name)) is not None}

        assert all(kept[name] >= last.get(name, 0) for name in kept)
        last = kept
