"""Service, cache and faults against a model: whatever fails in whatever order, no answer is wrong.

The model is what was acknowledged. One process, one caller at a time: every answer must equal the model exactly,
however Redis misbehaves, and whoever else writes to the database. With the database away an answer may also be a 503
(Unavailable), or be marked as stale, and then still equal the model, since nothing can have changed.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.fakes.cached_sessions import make_cached_sessions
from tests.fakes.faulty_session_repository import FaultySessionRepository
from tests.fakes.faulty_tier import FaultyTier
from tests.fakes.in_memory_change_log import InMemoryChangeLog
from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from tests.fakes.memory_tier import MemoryTier
from zpmeow.cache.policy import TruthState
from zpmeow.cache.position import POSITION_KEY
from zpmeow.domain.changes import Change
from zpmeow.domain.errors import (
    AlreadyConnected,
    CredentialNotFound,
    DeviceAlreadyInUse,
    Forbidden,
    InvalidTransition,
    QrCodeNotFound,
    SessionNameTaken,
    SessionNotFound,
    Unauthorized,
    Unavailable,
)
from zpmeow.domain.records import ReadSource, SessionStatus, Snapshot
from zpmeow.domain.references import ById, parse_reference
from zpmeow.domain.transitions import check_step, report
from zpmeow.services.access import Access, AccessService, Admission, Role
from zpmeow.services.arrivals import Arrivals
from zpmeow.services.sessions import INFO, SessionService

T = TypeVar("T")

_START = datetime(2026, 1, 1, tzinfo=UTC)
# A fault is mended more often than made, so that most steps find a tier that has something to say.
_TIER_FAULTS = [None, None, None, None, "refused", "bypassed", "timeout", "late"]
_NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta"])
_JIDS = st.sampled_from(["1@s.whatsapp.net", "2@s.whatsapp.net", "3@s.whatsapp.net"])


@dataclass
class Expected:
    """What a session must look like."""

    id: UUID
    name: str
    api_key: str
    status: SessionStatus = SessionStatus.DISCONNECTED
    reason: str | None = None
    device_jid: str | None = None
    code: str | None = None
    code_expires_at: datetime = _START


class WorldClock:
    """The database's clock and the process's, moved by hand."""

    def __init__(self) -> None:
        """Begin at the start."""
        self.time = _START

    def now(self) -> datetime:
        """Return the database's time."""
        return self.time

    def monotonic(self) -> float:
        """Return the seconds since the start."""
        return (self.time - _START).total_seconds()


class World:
    """The service over a truth and a tier that fail, with one clock for all."""

    def __init__(self, *, local_bytes: int) -> None:
        """Wire everything up; without bytes for it there is no local tier, and all that is read is Redis'."""
        self.clock = clock = WorldClock()
        self.memory = MemoryTier()
        self.tier = FaultyTier(self.memory)
        self.log = InMemoryChangeLog(now=clock.now)
        self.rows = InMemorySessionRepository(now=clock.now, committed=self.commit)
        self.truth = FaultySessionRepository(self.rows)
        self.cached = make_cached_sessions(
            truth=self.truth,
            tier=self.tier,
            clock=clock,
            monotonic=clock.monotonic,
            log=self.log,
            truth_state=self.truth_state,
            local_bytes=local_bytes,
        )
        self.repository = self.cached.repository
        self.is_deaf = False
        self.sessions = SessionService(sessions=self.repository, clock=clock, arrivals=Arrivals())
        self.access = AccessService(reader=self.repository, operator_key="operator", engine_key="engine")

    def commit(self, changes: Sequence[Change]) -> None:
        """Write the lines of a transaction, and tell the feed, which may be deaf."""
        self.log.commit(changes)
        if not self.is_deaf:
            self.cached.feed.changed(changes)

    def truth_state(self) -> TruthState:
        """Tell what the service would know of its database."""
        return TruthState.ANSWERS if self.truth.fault is None else TruthState.DOWN

    def make_deaf(self) -> None:
        """The listening connection breaks off."""
        self.is_deaf = True
        self.cached.feed.lost("killed")

    def make_hearing(self) -> None:
        """It is opened again."""
        self.is_deaf = False
        self.cached.feed.opened(database=self.log.database, since=self.clock.now(), heard_at=self.clock.monotonic())

    async def settle(self) -> None:
        """Let background work end; the feed is heard and the relay runs, as far as they can."""
        if not self.is_deaf:
            self.cached.confirm_feed()
        await self.cached.relay_once()


class ServiceAgainstModel(RuleBasedStateMachine):
    """Random steps of callers, faults and time; every answer is compared with the model."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = World(local_bytes=0)
        self.expected: dict[UUID, Expected] = {}
        self.saved: tuple[dict[str, bytes | None], dict[str, float]] | None = None
        self.old_keys: list[str] = []

    def teardown(self) -> None:
        """End what runs."""
        self.run(self.world.cached.close())
        self.runner.close()

    def run(self, work: Awaitable[T]) -> T:
        """Wait for the work, and for what it left running."""

        async def run_and_settle() -> T:
            try:
                return await work
            finally:
                await self.world.settle()

        return self.runner.run(run_and_settle())

    def pick(self, number: int) -> Expected:
        """Choose one of the sessions."""
        return list(self.expected.values())[number % len(self.expected)]

    def admission(self, text: str) -> Admission:
        """Admit an operator to the session that the text names."""
        return Admission(role=Role.OPERATOR, reference=parse_reference(text))

    @property
    def database_is_away(self) -> bool:
        """Whether the truth cannot be asked."""
        return self.world.truth.fault is not None

    @initialize(local_bytes=st.sampled_from([0, 1_000_000]))
    def begin(self, local_bytes: int) -> None:
        """With a local tier, or without."""
        self.world = World(local_bytes=local_bytes)

    # Callers who write.

    @precondition(lambda self: not self.database_is_away)
    @rule(name=_NAMES)
    def create(self, name: str) -> None:
        """A session is made, unless its name is taken."""
        taken = any(one.name == name for one in self.expected.values())
        try:
            keyed = self.run(self.world.sessions.create(name=name, api_key=None, proxy_url=None, webhook=None))
        except SessionNameTaken:
            assert taken
            return
        assert not taken
        session_id = keyed.snapshot.session.id
        self.expected[session_id] = Expected(id=session_id, name=name, api_key=keyed.api_key)

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), name=_NAMES, by_name=st.booleans())
    def rename(self, number: int, name: str, *, by_name: bool) -> None:
        """A session gets another name, unless that is taken."""
        one = self.pick(number)
        taken = any(other.name == name for other in self.expected.values() if other is not one)
        try:
            self.run(self.world.sessions.update(self.admission(one.name if by_name else str(one.id)), name=name))
        except SessionNameTaken:
            assert taken
            return
        assert not taken
        one.name = name

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9))
    def rotate_key(self, number: int) -> None:
        """A session gets another key."""
        one = self.pick(number)
        self.old_keys.append(one.api_key)
        one.api_key = self.run(self.world.sessions.rotate_key(self.admission(str(one.id)))).api_key

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9))
    def delete(self, number: int) -> None:
        """A session goes."""
        one = self.pick(number)
        self.run(self.world.sessions.delete(self.admission(str(one.id))))
        self.old_keys.append(one.api_key)
        del self.expected[one.id]

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), status=st.sampled_from(SessionStatus), reason=st.none() | st.just("logged out"))
    def report_status(self, number: int, status: SessionStatus, reason: str | None) -> None:
        """An engine reports a status."""
        one = self.pick(number)
        try:
            self.run(self.world.sessions.report_status(self.admission(one.name), status, reason))
        except InvalidTransition:
            try:
                check_step(one.status, status)
            except InvalidTransition:
                return
            raise
        if one.status is not status or reason is not None:
            one.reason = reason
        one.status = status

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), connects=st.booleans())
    def wish(self, number: int, *, connects: bool) -> None:
        """An owner wishes to be connected, or not."""
        one = self.pick(number)
        admission = self.admission(str(one.id))
        if not connects:
            self.run(self.world.sessions.disconnect(admission))
            one.reason = one.reason if one.status is SessionStatus.DISCONNECTED else None
            one.status, one.code = SessionStatus.DISCONNECTED, None
            return
        try:
            self.run(self.world.sessions.connect(admission))
        except AlreadyConnected:
            assert one.status is SessionStatus.CONNECTED
            return
        one.reason = one.reason if one.status is SessionStatus.CONNECTING else None
        one.status = SessionStatus.CONNECTING

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), code=st.sampled_from(["qr-1", "qr-2"]), seconds=st.integers(1, 120))
    def put_qr(self, number: int, code: str, seconds: int) -> None:
        """An engine brings a code to scan."""
        one = self.pick(number)
        self.run(self.world.sessions.put_qr(self.admission(one.name), code, seconds))
        one.code, one.code_expires_at = code, self.world.clock.time + timedelta(seconds=seconds)

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), device_jid=st.none() | _JIDS)
    def pair(self, number: int, device_jid: str | None) -> None:
        """An engine pairs a device, or forgets it."""
        one = self.pick(number)
        admission = self.admission(str(one.id))
        if device_jid is None:
            self.run(self.world.sessions.remove_credential(admission))
            one.device_jid = None
            return
        try:
            self.run(self.world.sessions.put_credential(admission, device_jid))
        except DeviceAlreadyInUse:
            assert any(other.device_jid == device_jid for other in self.expected.values() if other is not one)
            return
        one.device_jid, one.code = device_jid, None

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9))
    def empty_cache(self, number: int) -> None:
        """An operator empties one session's cache."""
        self.run(self.world.repository.invalidate(parse_reference(str(self.pick(number).id))))

    # Faults, and time.

    @rule(fault=st.sampled_from(_TIER_FAULTS))
    def break_or_mend_the_tier(self, fault: str | None) -> None:
        """Redis goes, hangs or comes back, with the data that it has."""
        self.world.tier.fault = fault

    @rule()
    def keep_the_tier_for_later(self) -> None:
        """Redis saves what it holds."""
        self.saved = (dict(self.world.memory.stored), dict(self.world.memory.expires_at))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def set_the_tier_back(self) -> None:
        """Redis dies and comes back at once with what it saved last."""
        assert self.saved is not None
        stored, expires_at = self.saved
        self.world.memory.stored, self.world.memory.expires_at = dict(stored), dict(expires_at)

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9))
    def outlive_what_memory_knows(self, number: int) -> None:
        """Redis saves, something is changed, half a minute passes, and Redis is set back to what it saved."""
        self.keep_the_tier_for_later()
        self.write_out_of_band(number, reason="meanwhile")
        self.pass_time(31)
        self.set_the_tier_back()
        self.read_info(number, by_name=False)

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9))
    def write_while_the_tier_is_away(self, number: int) -> None:
        """Redis refuses a change, and is asked for it before the relay has brought it."""
        self.world.tier.fault = "refused"
        self.write_out_of_band(number, reason="unheard")
        self.world.tier.fault = None
        self.read_info(number, by_name=False)

    @rule()
    def evict_the_position(self) -> None:
        """Redis drops the position, and keeps the rest."""
        self.world.memory.stored.pop(POSITION_KEY, None)

    @rule()
    def lose_or_open_the_feed(self) -> None:
        """The listening connection breaks off, or is back."""
        if self.world.is_deaf:
            self.world.make_hearing()
        else:
            self.world.make_deaf()

    @precondition(lambda self: self.expected and not self.database_is_away)
    @rule(number=st.integers(0, 9), reason=st.sampled_from(["by hand", "by a script"]))
    def write_out_of_band(self, number: int, reason: str) -> None:
        """Somebody changes a status by SQL: nobody but the triggers knows."""
        one = self.pick(number)
        self.run(self.world.rows.change_status(ById(one.id), report(SessionStatus.ERROR, reason)))
        one.status, one.reason = SessionStatus.ERROR, reason

    @rule()
    def late_writes_arrive(self) -> None:
        """Commands that were given up run now."""
        self.run(self.world.tier.run_late_writes())

    @rule(seed=st.integers(0, 2**32 - 1))
    def corrupt_the_tier(self, seed: int) -> None:
        """Somebody damages what Redis holds."""
        self.world.tier.corrupt(Random(seed))

    @rule()
    def wipe_the_tier(self) -> None:
        """FLUSHALL."""
        self.world.tier.wipe()

    @rule(away=st.sampled_from([False, False, False, True]))
    def take_or_bring_the_database(self, *, away: bool) -> None:
        """PostgreSQL goes or comes back."""
        self.world.truth.fault = self.world.log.fault = "away" if away else None

    @rule(seconds=st.sampled_from([0.5, 0.5, 6, 6, 6, 6, 20, 31, 31, 61, 301, 700, 22_000, 90_000]))
    def pass_time(self, seconds: float) -> None:
        """Things expire."""
        self.world.clock.time += timedelta(seconds=seconds)
        self.world.memory.now_seconds += seconds

    # Callers who read.

    @precondition(lambda self: bool(self.expected))
    @rule(number=st.integers(0, 9), by_name=st.booleans())
    def read_info(self, number: int, *, by_name: bool) -> None:
        """Status and device are as they were acknowledged."""
        one = self.pick(number)
        try:
            snapshot = self.run(self.world.sessions.info(self.admission(one.name if by_name else str(one.id))))
        except Unavailable:
            assert self.database_is_away
            return
        self.compare(snapshot, one)

    @precondition(lambda self: bool(self.expected))
    @rule(number=st.integers(0, 9), names_itself=st.booleans())
    def read_with_own_key(self, number: int, *, names_itself: bool) -> None:
        """A key opens its own session and tells of it what is so."""
        one = self.pick(number)
        try:
            admission = self.run(
                self.world.access.admit(
                    presented=one.api_key,
                    access=Access.READER,
                    session=str(one.id) if names_itself else one.name,
                    entities=INFO,
                )
            )
        except Unavailable:
            assert self.database_is_away
            return
        assert admission.snapshot is not None
        self.compare(admission.snapshot, one)

    @precondition(lambda self: bool(self.old_keys))
    @rule(number=st.integers(0, 9), other=st.integers(0, 9))
    def knock_with_an_old_key(self, number: int, other: int) -> None:
        """A key that was rotated or whose session is gone opens nothing, whatever Redis still has."""
        key = self.old_keys[number % len(self.old_keys)]
        session = str(self.pick(other).id) if self.expected else "alpha"
        try:
            self.run(
                self.world.access.admit(presented=key, access=Access.READER, session=session, entities=frozenset())
            )
        except Unauthorized:
            return
        except Unavailable:
            assert self.database_is_away
            return
        message = "an old key was let in"
        raise AssertionError(message)

    @precondition(lambda self: len(self.expected) > 1)
    @rule(number=st.integers(0, 9), other=st.integers(0, 9))
    def knock_at_another_session(self, number: int, other: int) -> None:
        """A key does not open a session that is not its own."""
        one, another = self.pick(number), self.pick(other)
        if one is another:
            return
        try:
            self.run(
                self.world.access.admit(
                    presented=one.api_key, access=Access.READER, session=str(another.id), entities=INFO
                )
            )
        except Forbidden:
            return
        except Unavailable:
            assert self.database_is_away
            return
        message = "a key opened another session"
        raise AssertionError(message)

    @precondition(lambda self: bool(self.expected))
    @rule(number=st.integers(0, 9))
    def read_qr(self, number: int) -> None:
        """The code is the last one brought, until it expires."""
        one = self.pick(number)
        expected = one.code if one.code is not None and one.code_expires_at > self.world.clock.time else None
        try:
            snapshot = self.run(self.world.sessions.qr(self.admission(str(one.id))))
        except QrCodeNotFound:
            assert expected is None
            return
        except Unavailable:
            assert self.database_is_away
            return
        assert snapshot.qr.code == expected
        assert snapshot.source is not ReadSource.STALE or self.database_is_away

    @precondition(lambda self: bool(self.expected))
    @rule(number=st.integers(0, 9))
    def read_credentials(self, number: int) -> None:
        """The device is the last one paired."""
        one = self.pick(number)
        try:
            snapshot = self.run(self.world.sessions.credentials(self.admission(one.name)))
        except CredentialNotFound:
            assert one.device_jid is None
            return
        except Unavailable:
            assert self.database_is_away
            return
        assert snapshot.credential.device_jid == one.device_jid

    @rule(name=_NAMES)
    def read_unknown_name(self, name: str) -> None:
        """A name that no session has leads nowhere, even if one had it."""
        if any(one.name == name for one in self.expected.values()):
            return
        try:
            self.run(self.world.sessions.status(self.admission(name)))
        except SessionNotFound:
            return
        except Unavailable:
            assert self.database_is_away
            return
        message = "a session was found under a name that none has"
        raise AssertionError(message)

    @rule(by_name=st.booleans())
    def read_everything(self, *, by_name: bool) -> None:
        """Every question about every session, every old key and every free name."""
        for number in range(len(self.expected)):
            self.read_info(number, by_name=by_name)
            self.read_with_own_key(number, names_itself=not by_name)
            self.read_qr(number)
            self.read_credentials(number)
        for number in range(min(len(self.old_keys), 10)):
            self.knock_with_an_old_key(number, number)
        for name in ("alpha", "beta", "gamma", "delta"):
            self.read_unknown_name(name)

    @rule()
    def read_everything_again(self) -> None:
        """Reads are most of what a gateway does: this rule makes them more frequent here too."""
        self.read_everything(by_name=True)

    def compare(self, snapshot: Snapshot, one: Expected) -> None:
        """Check that an answer is the model's."""
        assert (
            snapshot.session.id,
            snapshot.session.name,
            snapshot.status.status,
            snapshot.status.reason,
            snapshot.credential.device_jid,
        ) == (one.id, one.name, one.status, one.reason, one.device_jid)
        assert snapshot.source is not ReadSource.STALE or self.database_is_away


TestServiceAgainstModel = ServiceAgainstModel.TestCase
TestServiceAgainstModel.settings = settings(max_examples=200, stateful_step_count=60)
