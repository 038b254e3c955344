"""The verdict finds what is wrong: made-up traces, one for each broken promise."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.engines.users import Seen
from tests.engines.verdict import done_twice, held_wrongly, wrong_answers

SESSION = uuid4()


def took(command: str, at: float) -> dict[str, Any]:
    """Write down that an engine began with a command."""
    return {"what": "took", "command": command, "at": at}


def did(command: str, at: float) -> dict[str, Any]:
    """Write down that an engine acknowledged a command."""
    return {"what": "did", "command": command, "at": at}


def reported(at: float, *, outcome: str = "ok", status: str = "connected") -> dict[str, Any]:
    """Write down a report that holds for ten seconds."""
    line = {"what": "reported", "at": at, "began": at - 0.01, "outcome": outcome}
    return {**line, "session": str(SESSION), "status": status, "valid_for": 10}


@pytest.mark.parametrize(
    ("traces", "again", "needless"),
    [
        ([took("a", 1), did("a", 2)], 0, 0),
        ([took("a", 1), took("a", 31), did("a", 32)], 1, 0),
        ([took("a", 1), did("a", 2), took("a", 2.5)], 1, 0),
        ([took("a", 1), did("a", 2), took("a", 31)], 1, 1),
        ([took("a", 1), did("a", 2), took("b", 31)], 0, 0),
    ],
)
def test_a_command_that_is_done_again_is_counted_and_needless_if_it_was_acknowledged(
    traces: list[dict[str, Any]], again: int, needless: int
) -> None:
    """Needless is what comes again well after its acknowledgement."""
    count, found = done_twice(traces)

    assert (count, len(found)) == (again, needless)


@pytest.mark.parametrize(
    ("traces", "asked_at", "wrong"),
    [
        ([reported(100)], 105, False),
        ([reported(100)], 110.9, False),
        ([reported(100)], 111.1, True),
        ([reported(100), reported(108)], 115, False),
        ([reported(100, status="connecting")], 105, True),
        ([reported(100, outcome="cut off")], 115.9, False),
        ([reported(100, outcome="cut off")], 117.1, True),
        ([reported(120)], 105, True),
        ([], 105, True),
    ],
)
def test_an_answer_is_wrong_when_no_promise_of_it_holds(
    traces: list[dict[str, Any]], asked_at: float, *, wrong: bool
) -> None:
    """`connected` needs a report that has not ended, a second aside."""
    assert bool(wrong_answers(traces, [Seen(SESSION, "connected", asked_at)])) is wrong
    assert not wrong_answers(traces, [Seen(SESSION, "error", asked_at)])


@pytest.mark.parametrize(
    ("holds", "wanted", "problems"),
    [
        ([[SESSION], []], [SESSION], 0),
        ([[SESSION], [SESSION]], [SESSION], 1),
        ([[SESSION], []], [], 1),
        ([[], []], [SESSION], 1),
    ],
)
def test_a_session_is_held_by_one_engine_if_it_is_wanted(
    holds: list[list[UUID]], wanted: list[UUID], problems: int
) -> None:
    """Two engines are one too many, and so is one for what nobody wants."""
    assert len(held_wrongly(holds, wanted)) == problems
