"""From answers to what they show."""

import random

import orjson
import pytest

from tests.coherence.history import Value
from tests.coherence.http_client import Answer
from tests.coherence.ledger import KnownSession, Ledger
from tests.coherence.observing import Question, StrangeAnswerError, observe

ID = "0c42243e-606c-496e-bceb-3d99a8481a03"
OPERATOR = "an operator's"


@pytest.fixture
def ledger() -> Ledger:
    """One session, named `slot-0`, opened by its slot's key."""
    ledger = Ledger(slots=2, mortal=1, hot=1)
    slot = ledger.slots[0]
    slot.session = ledger.sessions[ID] = KnownSession(ID, name=slot.name, at=0.0, by="A")
    for register in (ledger.name(slot.name), ledger.key(slot.key)):
        register.acknowledge(register.begin(ID, at=0.0, by="A"), at=0.0)
    return ledger


def ask(resource: str, *, reference: str = ID, key: str = OPERATOR) -> Question:
    """Make a question."""
    return Question(
        resource=resource, reference=reference, by_id=reference == ID, key=key, by_session_key=key != OPERATOR
    )


def answer(status: int, **data: object) -> Answer:
    """Make an answer with this data, or with this error code."""
    body = {"data": data} if status == 200 else {"error": data}
    return Answer(status=status, cache_status=None, body=orjson.dumps(body))


def shown(ledger: Ledger, question: Question, reply: Answer) -> dict[str, Value]:
    """Return what an answer shows, by the names of the histories."""
    return {one.register.name: one.value for one in observe(ledger, question, reply) if not one.negated}


def test_info_shows_existence_name_webhook_and_device_when_it_is_found(ledger: Ledger) -> None:
    """One answer is held against all histories that it tells of."""
    session = {"name": "slot-0", "webhook": {"url": "https://hooks.test/7"}, "device_jid": None}

    found = shown(ledger, ask("info"), answer(200, session_id=ID, session=session))

    assert found == {
        f"existence of {ID}": ID,
        f"name of {ID}": "slot-0",
        f"webhook of {ID}": "7",
        f"device of {ID}": None,
    }


def test_name_is_shown_to_lead_to_the_session_when_an_operator_asked_by_name(ledger: Ledger) -> None:
    """Look-ups have histories, too."""
    found = shown(ledger, ask("qr", reference="slot-0"), answer(200, session_id=ID, qr_code="code 5"))

    assert found["name slot-0"] == ID
    assert found[f"qr of {ID}"] == "5"


def test_key_is_shown_to_open_the_session_when_it_asked(ledger: Ledger) -> None:
    """A session's own key leads to its session."""
    key = ledger.slots[0].key

    found = shown(ledger, ask("credentials", key=key), answer(200, session_id=ID, device_jid="9@devices.test"))

    assert found[f"key {key}"] == ID
    assert found[f"device of {ID}"] == "9"


@pytest.mark.parametrize(
    ("question", "reply", "name", "value"),
    [
        (ask("info"), answer(404, code="SESSION_NOT_FOUND"), f"existence of {ID}", None),
        (ask("info", reference="other"), answer(404, code="SESSION_NOT_FOUND"), "name other", None),
        (ask("qr"), answer(404, code="QR_CODE_NOT_FOUND"), f"qr of {ID}", None),
        (ask("credentials"), answer(404, code="CREDENTIAL_NOT_FOUND"), f"device of {ID}", None),
        (ask("info", key="k" * 40), answer(401, code="UNAUTHORIZED"), f"key {'k' * 40}", None),
    ],
)
def test_absence_is_shown_when_something_is_refused(
    ledger: Ledger, question: Question, reply: Answer, name: str, value: Value
) -> None:
    """What is not there has a history like what is there."""
    assert shown(ledger, question, reply)[name] == value


def test_forbidden_shows_that_the_name_is_not_the_sessions_when_its_own_key_asked(ledger: Ledger) -> None:
    """A key opens something, but not this name."""
    (opens, name) = observe(ledger, ask("info", reference="other", key=ledger.slots[0].key), answer(403))

    assert (opens.register.name, opens.value, opens.negated) == (f"key {ledger.slots[0].key}", None, True)
    assert (name.register.name, name.value, name.negated) == (f"name of {ID}", "other", True)


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (ask("info"), answer(200, session_id="another")),
        (ask("info"), answer(401, code="UNAUTHORIZED")),
        (ask("info"), answer(404, code="NOT_FOUND")),
        (ask("info"), answer(500, code="INTERNAL_ERROR")),
    ],
)
def test_answer_is_strange_when_no_history_can_explain_it(ledger: Ledger, question: Question, reply: Answer) -> None:
    """Another session's answer, a refused operator, a crash."""
    with pytest.raises(StrangeAnswerError):
        observe(ledger, question, reply)


def test_new_name_is_one_of_before_or_never_used_when_it_is_chosen(ledger: Ledger) -> None:
    """Names come back, but a session is never renamed to its own."""
    slot = ledger.slots[0]
    slot.past_names.extend(["slot-0", "old"])

    chosen = {ledger.new_name(slot, random.Random(seed)) for seed in range(50)}

    assert "old" in chosen
    assert "slot-0" not in chosen
