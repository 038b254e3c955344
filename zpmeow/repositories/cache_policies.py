"""What of a session is cached, under which keys, and for how long.

| entity     | key                      | fresh   | stale, with the database away |
| ---------- | ------------------------ | ------- | ----------------------------- |
| session    | `zpmeow:{<id>}:session`  | 24 h    | 24 h more                     |
| status     | `zpmeow:{<id>}:status`   | 5 min   | 24 h more                     |
| qr         | `zpmeow:{<id>}:qr`       | 60 s, never past a code's own expiry | never |
| credential | `zpmeow:{<id>}:credential` | 6 h   | never                         |
| name       | `zpmeow:name:<name>`     | 48 h, a hint: only the id | verified against the session |
| key        | `zpmeow:key:<sha256>`    | 24 h, a hint: only the id | verified against the session |

Each is fresh for up to a tenth less, drawn by chance. In this process all are kept for 5 s at most, and "there is no
such session" for 1 s. The lifetimes are the defaults of the settings. The braces are a hash tag: all keys of a session
stand in one slot of a Redis Cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from zpmeow.cache.policy import EntryKey, EntryPolicy, HintKey, HintPolicy
from zpmeow.domain.records import Entity
from zpmeow.domain.references import ByKeyHash, ByName
from zpmeow.repositories import record_codec

_STALE_SECONDS = 24 * 3600.0
_REMEMBERED_KEYS = 16_384  # About 15 MB; saves 5 µs a record where the same sessions are asked for again.


@dataclass(slots=True, frozen=True, kw_only=True)
class CacheLifetimes:
    """How long each entity stays fresh, in seconds; `stale_if_error` allows the last column of the table."""

    session_seconds: float
    status_seconds: float
    qr_seconds: float
    credential_seconds: float
    stale_if_error: bool


class RecordOf(NamedTuple):
    """What an entry is of: `EntryKey.of`."""

    session_id: UUID
    entity: Entity


class SessionKeys:
    """Where records of one session are cached. Shared by all who ask for them: never changed."""

    __slots__ = ("all", "besides_session", "by_entity")

    def __init__(self, by_entity: Mapping[Entity, EntryKey]) -> None:
        """Take the key of each entity."""
        self.by_entity = by_entity
        self.all = tuple(by_entity.values())
        self.besides_session = tuple(key for entity, key in by_entity.items() if entity is not Entity.SESSION)


class CachePolicies:
    """The table above, as keys."""

    def __init__(self, lifetimes: CacheLifetimes) -> None:
        """Make the policies for these lifetimes."""
        stale_seconds = _STALE_SECONDS if lifetimes.stale_if_error else 0.0
        self._policies = {
            Entity.SESSION: EntryPolicy(
                entity=Entity.SESSION,
                kind=1,
                schema=1,
                fresh_seconds=lifetimes.session_seconds,
                stale_seconds=stale_seconds,
                encode=record_codec.encode_session,
                decode=record_codec.decode_session,
                weigh=record_codec.weigh_session,
            ),
            Entity.STATUS: EntryPolicy(
                entity=Entity.STATUS,
                kind=2,
                schema=2,
                fresh_seconds=lifetimes.status_seconds,
                stale_seconds=stale_seconds,
                encode=record_codec.encode_status,
                decode=record_codec.decode_status,
                weigh=record_codec.weigh_status,
            ),
            Entity.QR: EntryPolicy(
                entity=Entity.QR,
                kind=3,
                schema=2,
                fresh_seconds=lifetimes.qr_seconds,
                stale_seconds=0.0,
                encode=record_codec.encode_qr,
                decode=record_codec.decode_qr,
                weigh=record_codec.weigh_qr,
            ),
            Entity.CREDENTIAL: EntryPolicy(
                entity=Entity.CREDENTIAL,
                kind=4,
                schema=1,
                fresh_seconds=lifetimes.credential_seconds,
                stale_seconds=0.0,
                encode=record_codec.encode_credential,
                decode=record_codec.decode_credential,
                weigh=record_codec.weigh_credential,
            ),
        }
        self._entry_key = lru_cache(maxsize=_REMEMBERED_KEYS)(self._make_entry_key)
        self._session_keys = lru_cache(maxsize=_REMEMBERED_KEYS)(self._make_session_keys)
        # As long as the session that it leads to may be served: a stale one is asked for by name too.
        self._name_policy = HintPolicy(entity="name", lifetime_seconds=lifetimes.session_seconds + stale_seconds)
        self._key_policy = HintPolicy(entity="key", lifetime_seconds=lifetimes.session_seconds)

    @property
    def longest_lifetime_seconds(self) -> float:
        """How long the entry lives in the tier that lives longest."""
        return max(policy.lifetime_seconds for policy in self._policies.values())

    def entry_key(self, session_id: UUID, entity: Entity) -> EntryKey:
        """Return where a record of the session is cached."""
        return self._entry_key(session_id, entity)

    def session_keys(self, session_id: UUID, entities: frozenset[Entity]) -> SessionKeys:
        """Return where these records of the session are cached."""
        return self._session_keys(session_id, entities)

    def hint_key(self, reference: ByName | ByKeyHash) -> HintKey:
        """Return where the id of a named or keyed session is cached."""
        match reference:
            case ByName(name):
                return HintKey(f"zpmeow:name:{name}", self._name_policy)
            case ByKeyHash(key_hash):
                return self.hint_key_of_digits(key_hash.hex())

    def hint_key_of_digits(self, digits: str) -> HintKey:
        """Return where the id of a keyed session is cached, by the hash in hexadecimal digits."""
        return HintKey(f"zpmeow:key:{digits}", self._key_policy)

    def _make_session_keys(self, session_id: UUID, entities: frozenset[Entity]) -> SessionKeys:
        return SessionKeys({entity: self._entry_key(session_id, entity) for entity in entities})

    def _make_entry_key(self, session_id: UUID, entity: Entity) -> EntryKey:
        return EntryKey(f"zpmeow:{{{session_id}}}:{entity}", self._policies[entity], of=RecordOf(session_id, entity))
