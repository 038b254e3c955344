"""Who is calling, and may they: the presented key against what the route asks for.

    key ── operator's? engine's? ──→ role ── route's access ──→ admitted, or Forbidden
     └── a session's: checksum → hash → look-up → its session ── is it the one in the path? ──┘

A session's key is looked up together with what the route will answer with, so that the most frequent
question costs one read. Its caller learns nothing of other sessions: any other session, existing or
not, is Forbidden.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from zpmeow.domain.api_key import hash_api_key, is_plausible_api_key, same_secret
from zpmeow.domain.errors import Forbidden, Unauthorized
from zpmeow.domain.ports import SessionReader
from zpmeow.domain.records import Entity, SessionRecord, Snapshot
from zpmeow.domain.references import ById, ByKeyHash, SessionReference, parse_reference, parse_uuid

_OPENS_NOTHING = "the API key opens nothing"


class Role(StrEnum):
    """Whose key was presented."""

    OPERATOR = "operator"
    ENGINE = "engine"
    SESSION = "session"


class Access(Enum):
    """Whose keys open a route."""

    OPERATOR = frozenset({Role.OPERATOR})
    ENGINE = frozenset({Role.OPERATOR, Role.ENGINE})
    OWNER = frozenset({Role.OPERATOR, Role.SESSION})
    READER = frozenset({Role.OPERATOR, Role.ENGINE, Role.SESSION})


@dataclass(slots=True, frozen=True, kw_only=True)
class Admission:
    """A caller who may go on, and the session that the path names (None if it names none).

    `snapshot` is what was read on the way: for a session's own key always, the session with the records asked
    for. `sees_proxy_password`: the caller is an engine.
    """

    role: Role
    reference: SessionReference | None = None
    snapshot: Snapshot | None = None
    sees_proxy_password: bool = False

    @property
    def target(self) -> SessionReference:
        """The session that the path names; an error where the route names none."""
        assert self.reference is not None, "this route names no session"
        return self.reference

    def check_still_opens(self, session: SessionRecord) -> None:
        """Raise Unauthorized if the caller's key was the session's, and is not any more: for who has waited since."""
        if self.role is not Role.SESSION:
            return
        assert self.snapshot is not None
        if not same_secret(self.snapshot.session.key_hash, session.key_hash):
            raise Unauthorized(_OPENS_NOTHING)


class AccessService:
    """Admits callers by their key. Holds only hashes of the configured keys."""

    def __init__(self, *, reader: SessionReader, operator_key: str, engine_key: str) -> None:
        """Take the configured keys; an empty one is not set.

        Without an operator key, a caller who presents none is the operator: the settings allow that on
        a loopback address only. Without an engine key, engines present the operator's.
        """
        self._reader = reader
        self._operator_hash = hash_api_key(operator_key) if operator_key else None
        self._engine_hash = hash_api_key(engine_key) if engine_key else None

    @property
    def asks_for_key(self) -> bool:
        """Whether a caller without a key is refused."""
        return self._operator_hash is not None

    def is_operator(self, presented: str | None) -> bool:
        """Tell whether the key is the operator's, without looking anything up or refusing anyone."""
        digest = None if presented is None else hash_api_key(presented)
        return self._configured_role(digest) is Role.OPERATOR

    async def admit(
        self, *, presented: str | None, access: Access, session: str | None, entities: frozenset[Entity]
    ) -> Admission:
        """Admit the caller, or raise.

        Args:
            presented: the key as the caller sent it, None if there was none.
            access: whose keys open the route.
            session: `{sessionId}` of the path, None if the route has none.
            entities: the records that the route will answer with.

        Raises:
            Unauthorized: no key, or one that opens nothing.
            Forbidden: a valid key that does not open this.
            Unavailable: the key had to be looked up in the database, which cannot answer.
        """
        digest = None if presented is None else hash_api_key(presented)
        role = self._configured_role(digest)
        if role is not None:
            if role not in access.value:
                message = f"the {role} key does not open this"
                raise Forbidden(message)
            return Admission(
                role=role,
                reference=None if session is None else parse_reference(session),
                sees_proxy_password=role is Role.ENGINE or self._engine_hash is None,
            )
        if presented is None or digest is None:
            message = "an API key is needed: X-API-Key, or Authorization: Bearer"
            raise Unauthorized(message)
        if not is_plausible_api_key(presented):
            raise Unauthorized(_OPENS_NOTHING)
        return await self._admit_session(digest, access, session, entities)

    def _configured_role(self, digest: bytes | None) -> Role | None:
        if digest is None:
            return None if self.asks_for_key else Role.OPERATOR
        if self._operator_hash is not None and same_secret(digest, self._operator_hash):
            return Role.OPERATOR
        if self._engine_hash is not None and same_secret(digest, self._engine_hash):
            return Role.ENGINE
        return None

    async def _admit_session(
        self, digest: bytes, access: Access, session: str | None, entities: frozenset[Entity]
    ) -> Admission:
        likely_id = None if session is None else parse_uuid(session)
        snapshot = await self._reader.find(ByKeyHash(digest, likely_id), entities)
        if snapshot is None:
            raise Unauthorized(_OPENS_NOTHING)
        if Role.SESSION not in access.value:
            message = "the session key does not open this"
            raise Forbidden(message)
        if session is None or not _names(session, snapshot.session):
            message = "a session's key opens only its own session"
            raise Forbidden(message)
        return Admission(role=Role.SESSION, reference=ById(snapshot.session.id), snapshot=snapshot)


def _names(text: str, session: SessionRecord) -> bool:
    return text == session.name or parse_uuid(text) == session.id
