"""What is kept of answers is bounded; what was asked for least recently goes first."""

from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from typing_extensions import override

from zpmeow.api.recalled_answers import KeptAnswer, RecalledAnswers
from zpmeow.api.repeatable import Repeatable
from zpmeow.domain.records import Snapshot, SnapshotRecall
from zpmeow.domain.references import ById
from zpmeow.events import ignore
from zpmeow.services.access import Admission, Role

ROOM_FOR_TWO = 10_000


class NeverAgain(SnapshotRecall):
    """A read that cannot be repeated."""

    @override
    def repeat(self) -> bool:
        return False

    @override
    async def read(self) -> Snapshot | None:
        return None


async def refuse_to_answer(_request: web.Request, /, *, kept: KeptAnswer) -> web.StreamResponse:
    """Nobody is asked here."""
    raise AssertionError(kept)


def make_answers(*, max_bytes: int = ROOM_FOR_TWO) -> RecalledAnswers:
    """Return an empty place for answers."""
    return RecalledAnswers(
        observer=ignore,
        now=lambda: datetime.now(UTC),
        epoch_tag=lambda: "0",
        is_on=lambda: True,
        max_bytes=max_bytes,
    )


def request_for(name: str) -> web.Request:
    """Return a request for the session of that name."""
    return make_mocked_request("GET", f"/sessions/{name}/info", headers={"X-API-Key": f"key-of-{name}"})


def keep(answers: RecalledAnswers, name: str, *, body: bytes = b"{}") -> None:
    """Keep an answer for that session."""
    admission = Admission(role=Role.SESSION, reference=ById(UUID(int=1)))
    repeatable = Repeatable(
        make_recall=NeverAgain, records={}, epoch_tag="0", until=None, admission=admission, etag='"0-1"', body=body
    )
    answers.keep(request_for(name), repeatable, route="/sessions/{sessionId}/info", ask=refuse_to_answer)


def kept_of(answers: RecalledAnswers, *names: str) -> list[str]:
    """Return for which of these sessions there is an answer."""
    return [name for name in names if answers.find(request_for(name)) is not None]


def test_least_recently_asked_answer_goes_when_there_is_no_room_for_all() -> None:
    """A crowd of other sessions does not cost more memory."""
    answers = make_answers()
    keep(answers, "a")
    keep(answers, "b")
    assert kept_of(answers, "a") == ["a"]

    keep(answers, "c")

    assert kept_of(answers, "a", "b", "c") == ["a", "c"]


def test_answer_takes_its_room_once_when_it_is_kept_again() -> None:
    """The newer one takes the older one's place."""
    answers = make_answers()
    keep(answers, "a")
    for _ in range(10):
        keep(answers, "b")

    assert kept_of(answers, "a", "b") == ["a", "b"]


def test_answer_is_not_kept_when_it_alone_is_too_large() -> None:
    """And costs nobody else's place."""
    answers = make_answers()
    keep(answers, "a")

    keep(answers, "b", body=b"x" * ROOM_FOR_TWO)

    assert kept_of(answers, "a", "b") == ["a"]
