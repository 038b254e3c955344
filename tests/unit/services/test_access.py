"""Access: whose key opens what, and what a caller may learn."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from zpmeow.domain.api_key import generate_api_key, hash_api_key
from zpmeow.domain.errors import Forbidden, Unauthorized
from zpmeow.domain.records import Entity, ReadSource, Record, SessionRecord, Snapshot
from zpmeow.domain.references import ById, ByKeyHash, ByName, SessionReference
from zpmeow.services.access import Access, AccessService, Role

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPERATOR_KEY = "operator-key-of-at-least-32-characters"
ENGINE_KEY = "engine-key-of-at-least-32-characters--"


class OneSession:
    """A reader that knows one session by its key, and counts how often it was asked."""

    def __init__(self, key: str) -> None:
        """Know a session with this key."""
        self.key_hash = hash_api_key(key)
        self.id: UUID = uuid4()
        self.asked: list[SessionReference] = []

    async def find(
        self, reference: SessionReference, entities: frozenset[Entity], *, with_secrets: bool = False
    ) -> Snapshot | None:
        """Return the session if the key is its own."""
        self.asked.append(reference)
        if not isinstance(reference, ByKeyHash) or reference.key_hash != self.key_hash:
            return None
        session = SessionRecord(
            id=self.id,
            version=1,
            name="mine",
            key_hash=self.key_hash,
            proxy_url=None,
            has_proxy_password=False,
            proxy_password=None,
            webhook=None,
            created_at=_NOW,
            updated_at=_NOW,
        )
        records: Mapping[Entity, Record] = {Entity.SESSION: session}
        return Snapshot(records=records, source=ReadSource.REDIS)


@pytest.fixture
def session_key() -> str:
    """The key of the one session."""
    return generate_api_key()


@pytest.fixture
def reader(session_key: str) -> OneSession:
    """A reader that knows the one session."""
    return OneSession(session_key)


@pytest.fixture
def access(reader: OneSession) -> AccessService:
    """A service with an operator's and an engine's key."""
    return AccessService(reader=reader, operator_key=OPERATOR_KEY, engine_key=ENGINE_KEY)


@pytest.mark.parametrize("route", Access)
async def test_operator_key_opens_everything(access: AccessService, route: Access, reader: OneSession) -> None:
    """The operator is admitted everywhere, without any look-up."""
    admission = await access.admit(presented=OPERATOR_KEY, access=route, session="x", entities=frozenset())

    assert (admission.role, admission.reference) == (Role.OPERATOR, ByName("x"))
    assert reader.asked == []


@pytest.mark.parametrize("route", Access)
async def test_engine_key_opens_what_engines_read_and_write(access: AccessService, route: Access) -> None:
    """Engines are refused what is the operator's or the owner's."""
    if route in {Access.ENGINE, Access.READER}:
        admission = await access.admit(presented=ENGINE_KEY, access=route, session="x", entities=frozenset())
        assert admission.role is Role.ENGINE
    else:
        with pytest.raises(Forbidden):
            await access.admit(presented=ENGINE_KEY, access=route, session="x", entities=frozenset())


@pytest.mark.parametrize("route", Access)
async def test_session_key_opens_its_own_session_only(
    access: AccessService, route: Access, reader: OneSession, session_key: str
) -> None:
    """By id or by name, where owners are admitted at all; the read is not repeated later."""
    for text in (str(reader.id), str(reader.id).upper(), "mine"):
        if route in {Access.OWNER, Access.READER}:
            admission = await access.admit(presented=session_key, access=route, session=text, entities=frozenset())
            assert admission.reference == ById(reader.id)
            assert admission.snapshot is not None
            assert not admission.sees_proxy_password
        else:
            with pytest.raises(Forbidden):
                await access.admit(presented=session_key, access=route, session=text, entities=frozenset())


@pytest.mark.parametrize("text", ["another", "0e6bd8a4-1f0f-4a4a-9c39-0f7d1c1f9a11", "", "MINE", None])
async def test_session_key_is_forbidden_when_the_path_names_another(
    access: AccessService, session_key: str, text: str | None
) -> None:
    """Whether the other session exists is not even asked."""
    with pytest.raises(Forbidden):
        await access.admit(presented=session_key, access=Access.READER, session=text, entities=frozenset())


async def test_junk_is_refused_without_a_lookup_when_it_has_our_prefix(
    access: AccessService, reader: OneSession
) -> None:
    """A wrong checksum costs nobody a query."""
    with pytest.raises(Unauthorized):
        await access.admit(presented="zpm_" + "a" * 38, access=Access.READER, session="mine", entities=frozenset())

    assert reader.asked == []


async def test_unknown_key_is_unauthorized(access: AccessService) -> None:
    """A well-formed key that opens nothing is no key."""
    with pytest.raises(Unauthorized):
        await access.admit(presented=generate_api_key(), access=Access.READER, session="mine", entities=frozenset())


async def test_no_key_is_unauthorized_when_keys_are_asked_for(access: AccessService) -> None:
    """With an operator key set, nobody comes in without one."""
    with pytest.raises(Unauthorized):
        await access.admit(presented=None, access=Access.READER, session="mine", entities=frozenset())


async def test_no_key_is_the_operator_when_none_is_set(reader: OneSession) -> None:
    """Without an operator key, the caller without a key may do everything."""
    access = AccessService(reader=reader, operator_key="", engine_key="")

    admission = await access.admit(presented=None, access=Access.OPERATOR, session=None, entities=frozenset())

    assert admission.role is Role.OPERATOR
    assert not access.asks_for_key


async def test_presented_key_is_checked_even_when_none_is_needed(reader: OneSession, session_key: str) -> None:
    """Who presents a key is who the key says, and nobody with a wrong one."""
    access = AccessService(reader=reader, operator_key="", engine_key="")

    with pytest.raises(Unauthorized):
        await access.admit(presented="x" * 40, access=Access.READER, session="mine", entities=frozenset())
    with pytest.raises(Forbidden):
        await access.admit(presented=session_key, access=Access.OPERATOR, session=None, entities=frozenset())


@pytest.mark.parametrize(
    ("engine_key", "presented", "sees"),
    [(ENGINE_KEY, OPERATOR_KEY, False), (ENGINE_KEY, ENGINE_KEY, True), ("", OPERATOR_KEY, True)],
)
async def test_proxy_password_is_seen_by_engines_only(
    reader: OneSession, engine_key: str, presented: str, *, sees: bool
) -> None:
    """The operator sees it only where engines have to use the operator's key."""
    access = AccessService(reader=reader, operator_key=OPERATOR_KEY, engine_key=engine_key)

    admission = await access.admit(presented=presented, access=Access.READER, session="mine", entities=frozenset())

    assert admission.sees_proxy_password is sees
