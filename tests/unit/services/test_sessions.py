"""The use cases of a session: what is refused though it is there."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes.in_memory_session_repository import InMemorySessionRepository
from zpmeow.domain.errors import QrCodeNotFound
from zpmeow.domain.references import ById
from zpmeow.services.access import Admission, Role
from zpmeow.services.arrivals import Arrivals
from zpmeow.services.sessions import SessionService


class Hands:
    """A clock that a test turns."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time."""
        return self.time


@pytest.mark.parametrize(("seconds", "is_served"), [(59.999, True), (60, False), (61, False)])
async def test_qr_code_is_served_until_it_expires(seconds: float, *, is_served: bool) -> None:
    """The database keeps a code that has expired; nobody is shown it."""
    clock = Hands()
    sessions = SessionService(sessions=InMemorySessionRepository(now=clock.now), clock=clock, arrivals=Arrivals())
    made = await sessions.create(name="alpha", api_key=None, proxy_url=None, webhook=None)
    owner = Admission(role=Role.OPERATOR, reference=ById(made.snapshot.session.id))
    await sessions.put_qr(owner, "qr-1", 60)

    clock.time += timedelta(seconds=seconds)

    if is_served:
        assert (await sessions.qr(owner)).qr.code == "qr-1"
    else:
        with pytest.raises(QrCodeNotFound):
            await sessions.qr(owner)
