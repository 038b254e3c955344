"""Where what the log names is cached."""

from uuid import UUID

import pytest

from tests.fakes.cached_sessions import LIFETIMES
from zpmeow.cache.entry_codec import EntryCodec
from zpmeow.cache.envelope import VERSION_OFFSET
from zpmeow.domain.changes import Change
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ByKeyHash, ByName
from zpmeow.repositories.cache_policies import CachePolicies
from zpmeow.repositories.change_keys import ChangeKeys

ID = UUID(int=0xA1)
EPOCH = b"e" * 16
POLICIES = CachePolicies(LIFETIMES)
KEYS = ChangeKeys(policies=POLICIES, codec=EntryCodec(now_ms=lambda: 0))


@pytest.mark.parametrize("entity", Entity)
def test_record_is_found_where_readers_look_for_it_when_it_is_named(entity: Entity) -> None:
    """The log's words lead to the very key that a read uses."""
    assert KEYS.key_of(Change(entity=entity.value, key=str(ID), version=1)) == POLICIES.entry_key(ID, entity)


def test_look_ups_are_found_where_readers_look_for_them_when_they_are_named() -> None:
    """By name, and by the hash in hexadecimal digits."""
    key_hash = bytes(range(32))

    assert KEYS.key_of(Change(entity="name", key="alpha", version=1)) == POLICIES.hint_key(ByName("alpha"))
    assert KEYS.key_of(Change(entity="key", key=key_hash.hex(), version=1)) == POLICIES.hint_key(ByKeyHash(key_hash))


@pytest.mark.parametrize(
    ("entity", "key"),
    [
        ("session", "not an id"),
        ("session", ""),
        ("status", str(ID)[:-1]),
        ("qr", str(ID).replace("-", "")),
        ("epoch", "00"),
        ("mode", "bypass"),
        ("position", ""),
        ("", ""),
        ("SESSION", str(ID)),
        ("later", str(ID)),
    ],
)
def test_nothing_is_meant_when_a_change_names_no_entry_of_ours(entity: str, key: str) -> None:
    """Garbage, control words, and what a later release may add."""
    assert KEYS.key_of(Change(entity=entity, key=key, version=1)) is None


def test_fence_has_the_newest_version_when_an_entry_was_changed_often() -> None:
    """One fence for each entry, whatever the order of the lines; each hint once; what is none of ours is left out."""
    changes = [
        Change(entity="status", key=str(ID), version=7),
        Change(entity="status", key=str(ID), version=9),
        Change(entity="status", key=str(ID), version=8),
        Change(entity="qr", key=str(ID), version=3),
        Change(entity="name", key="alpha", version=5),
        Change(entity="name", key="alpha", version=4),
        Change(entity="epoch", key="00", version=0),
        Change(entity="session", key="garbage", version=10),
    ]

    fences = KEYS.fences(changes, epoch=EPOCH)

    versions = {fence.key: int.from_bytes(fence.envelope[VERSION_OFFSET : VERSION_OFFSET + 8]) for fence in fences}
    assert versions == {
        POLICIES.entry_key(ID, Entity.STATUS).text: 9,
        POLICIES.entry_key(ID, Entity.QR).text: 3,
    }


def test_fences_leave_values_of_their_own_version_when_they_are_applied() -> None:
    """The writer's own value may be there before the relay: it is as new as the change."""
    fences = KEYS.fences([Change(entity="status", key=str(ID), version=7)], epoch=EPOCH)

    assert [fence.retire for fence in fences] == [False]


def test_fences_are_none_when_nothing_changed() -> None:
    """A beat brings nothing but itself."""
    fences = KEYS.fences([], epoch=EPOCH)

    assert fences == []
