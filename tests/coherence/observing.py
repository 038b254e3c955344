"""From an answer to what it shows: of which value of which session it says what.

200                      the session exists, has this name, is opened by this key; and the values themselves
401 with a session's key this key opens nothing
403 with a session's key the key opens a session, but not the one in the path
404                      no session there; or the session has no code, no device
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.coherence.history import Register, Value
from tests.coherence.http_client import Answer, Request
from tests.coherence.ledger import KnownSession, Ledger


@dataclass(slots=True, frozen=True, kw_only=True)
class Question:
    """What is read: a resource of the session that `reference` names, with a session's key or an operator's.

    `resource` is info, status, qr or credentials.
    """

    resource: str
    reference: str
    by_id: bool
    key: str
    by_session_key: bool

    def request(self) -> Request:
        """Return it as it is sent."""
        return Request(method="GET", path=f"/sessions/{self.reference}/{self.resource}", key=self.key)


@dataclass(slots=True, frozen=True)
class Observation:
    """A history and the value that was shown of it; or, negated, a value that it was shown not to have."""

    register: Register
    value: Value
    negated: bool = False


class StrangeAnswerError(Exception):
    """The answer fits no rule, whatever was written."""


def observe(ledger: Ledger, question: Question, answer: Answer) -> list[Observation]:
    """Return what the answer shows. Raises StrangeAnswerError."""
    if answer.status == 200:
        return list(_found(ledger, question, answer.data))
    if answer.status == 401 and question.by_session_key:
        return [Observation(ledger.key(question.key), None)]
    if answer.status == 403 and question.by_session_key:
        return list(_forbidden(ledger, question))
    if answer.status == 404:
        return list(_missing(ledger, question, answer.error))
    raise StrangeAnswerError(_shown(answer))


def _found(ledger: Ledger, question: Question, data: dict[str, Any]) -> Iterator[Observation]:
    session_id: str = data["session_id"]
    if question.by_id and session_id != question.reference:
        message = f"session {session_id} for {question.reference}"
        raise StrangeAnswerError(message)
    if question.by_session_key:
        yield Observation(ledger.key(question.key), session_id)
    elif not question.by_id:
        yield Observation(ledger.name(question.reference), session_id)
    session = ledger.sessions.get(session_id)
    if session is None:
        return  # It is being made, and its id not known yet; the name's history tells whether that may be.
    yield Observation(session.exists, session_id)
    if not question.by_id:
        yield Observation(session.name, question.reference)
    values = session.values
    match question.resource:
        case "info":
            shown = data["session"]
            webhook = shown["webhook"]
            yield Observation(session.name, shown["name"])
            yield Observation(values["webhook"], None if webhook is None else number_in_webhook(webhook["url"]))
            yield Observation(values["device"], number_in_device(shown["device_jid"]))
        case "status":
            yield Observation(session.name, data["name"])
            yield Observation(values["status"], data["reason"])
            yield Observation(values["device"], number_in_device(data["device_jid"]))
        case "qr":
            yield Observation(values["qr"], number_in_qr(data["qr_code"]))
        case _:
            yield Observation(values["device"], number_in_device(data["device_jid"]))


def _forbidden(ledger: Ledger, question: Question) -> Iterator[Observation]:
    """The key opens something. Which session that is, is known where it has opened only one."""
    yield Observation(ledger.key(question.key), None, negated=True)
    session = _opened_by(ledger, question.key)
    if session is None:
        return
    if question.reference == session.id:
        message = f"the key of session {session.id} is forbidden there"
        raise StrangeAnswerError(message)
    if not question.by_id:
        yield Observation(session.name, question.reference, negated=True)


def _missing(ledger: Ledger, question: Question, error: str) -> Iterator[Observation]:
    value = {"QR_CODE_NOT_FOUND": "qr", "CREDENTIAL_NOT_FOUND": "device"}.get(error)
    if value is None and error != "SESSION_NOT_FOUND":
        raise StrangeAnswerError(error)
    session = ledger.sessions.get(question.reference) if question.by_id else None
    if value is None:
        if session is not None:
            yield Observation(session.exists, None)
        elif not question.by_id:
            yield Observation(ledger.name(question.reference), None)
        return
    if session is None and question.by_session_key:
        session = _opened_by(ledger, question.key)
    if session is not None:
        yield Observation(session.exists, session.id)
        yield Observation(session.values[value], None)


def _opened_by(ledger: Ledger, key: str) -> KnownSession | None:
    """Return the one session that this key opens or has opened: no key is ever given to two."""
    write = ledger.key(key).find_other(None)
    return ledger.sessions.get(write.value) if write is not None and isinstance(write.value, str) else None


def number_in_webhook(url: str) -> str:
    """Return the number that a webhook's URL carries; what carries none is returned as it is."""
    return url.removeprefix("https://hooks.test/")


def number_in_qr(code: str) -> str:
    """Return the number that a code carries."""
    return code.removeprefix("code ")


def number_in_device(jid: str | None) -> str | None:
    """Return the number that a device carries."""
    return None if jid is None else jid.removesuffix("@devices.test")


def _shown(answer: Answer) -> str:
    return f"{answer.status} {answer.body[:200].decode(errors='replace')}"
