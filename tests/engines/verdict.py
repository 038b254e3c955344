"""What the traces say: which commands were done twice, which answers were wrong, who holds what."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from tests.engines.users import Seen

Line = dict[str, Any]

UNANSWERED_SECONDS = 6.0
"""How long a report whose engine was cut off may still have taken effect: DB_TIMEOUT and some more."""

BOUND_SECONDS = 1.0
_IN_FLIGHT_SECONDS = 1.0


def done_twice(traces: Sequence[Line]) -> tuple[int, list[str]]:
    """Return how often a command was begun anew, and which of these were needless: acknowledged long before."""
    begun: dict[str, list[float]] = defaultdict(list)
    acknowledged: dict[str, float] = {}
    for line in traces:
        if line["what"] == "took":
            begun[line["command"]].append(line["at"])
        elif line["what"] == "did":
            acknowledged.setdefault(line["command"], line["at"])
    again = [(command, at) for command, times in begun.items() for at in times[1:]]
    needless = [
        f"{command} was begun {at - acknowledged[command]:.1f} s after it had been acknowledged"
        for command, at in again
        if command in acknowledged and at > acknowledged[command] + _IN_FLIGHT_SECONDS
    ]
    return len(again), needless


def wrong_answers(traces: Iterable[Line], seen: Iterable[Seen]) -> list[str]:
    """Return the answers that say `connected` though no engine's promise of that held any more."""
    promises: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in traces:
        if line["what"] in {"reports", "reported"} and line["status"] == "connected":
            answered = line["what"] == "reported" and line["outcome"] == "ok"
            end = line["at"] + line["valid_for"] + (0.0 if answered else UNANSWERED_SECONDS)
            began = line["began"] if line["what"] == "reported" else line["at"]
            promises[line["session"]].append((began, end))
    wrong = []
    for one in seen:
        if one.status != "connected":
            continue
        ends = [end for began, end in promises[str(one.session)] if began <= one.asked_at + BOUND_SECONDS]
        if not ends or max(ends) + BOUND_SECONDS < one.asked_at:
            late = one.asked_at - max(ends, default=0.0)
            wrong.append(f"{one.session} was called connected {late:.2f} s after the last promise of that")
    return wrong


def held_wrongly(holds: Sequence[Sequence[UUID]], connected: Iterable[UUID]) -> list[str]:
    """Return which sessions are held by two engines, or by one though nobody wants them, or by none."""
    wanted = set(connected)
    count: dict[UUID, int] = defaultdict(int)
    for sessions in holds:
        for session in sessions:
            count[session] += 1
    twice = [f"{session} is held by {times} engines" for session, times in count.items() if times > 1]
    unwanted = [f"{session} is held, and nobody wants it" for session in count if session not in wanted]
    missing = [f"{session} is held by nobody" for session in wanted if not count[session]]
    return twice + unwanted + missing
