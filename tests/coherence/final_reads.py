"""After quiet: every value is read once more from every process, and must be the one that the database has."""

from collections.abc import Mapping
from typing import Any

from tests.coherence.changes import OPERATOR_KEY
from tests.coherence.http_client import HttpClient
from tests.coherence.judge import Finding, Reading
from tests.coherence.ledger import KnownSession
from tests.coherence.observing import Question, StrangeAnswerError, observe
from tests.coherence.reading import Court
from tests.coherence.sql_client import SqlClient

_MADE_LAST = 100
_RESOURCES = ("info", "status", "qr", "credentials")
_TRUTH = """
    SELECT s.name, replace(s.webhook_url, 'https://hooks.test/', '') AS webhook, t.reason AS status,
           replace(q.code, 'code ', '') AS qr, replace(c.device_jid, '@devices.test', '') AS device
    FROM sessions s
    JOIN session_status t ON t.session_id = s.id
    JOIN session_qr q ON q.session_id = s.id
    JOIN session_credential c ON c.session_id = s.id
    WHERE s.id = $1
"""


async def read_everything(court: Court, client: SqlClient, ports: Mapping[str, int]) -> None:
    """Read all that lives, and what was made last and may be gone. Nobody writes meanwhile."""
    made_last = list(court.ledger.sessions.values())[-_MADE_LAST:]
    living = [slot.session for slot in court.ledger.slots if slot.session is not None]
    sessions = {session.id: session for session in (*made_last, *living)}
    for process, port in ports.items():
        http = HttpClient(port)
        for session in sessions.values():
            rows = await client.fetch(_TRUTH, session.id)
            for resource in _RESOURCES:
                await _read(court, http, process, session, resource, rows[0] if rows else None)
        http.close()


async def _read(
    court: Court, http: HttpClient, process: str, session: KnownSession, resource: str, row: Mapping[str, Any] | None
) -> None:
    question = Question(resource=resource, reference=session.id, by_id=True, key=OPERATOR_KEY, by_session_key=False)
    began_at = court.clock()
    answer = await http.ask(question.request())
    reading = Reading(
        process=process,
        began_at=began_at,
        ended_at=court.clock(),
        request=str(question.request()),
        cache_status=answer.cache_status,
    )
    truth = {session.exists: None} if row is None else {session.exists: session.id, session.name: row["name"]}
    if row is not None:
        truth |= {session.values[value]: row[value] for value in session.values}
    try:
        observations = observe(court.ledger, question, answer)
    except StrangeAnswerError as error:
        court.judge.report(Finding.STRANGE, reading, str(error))
        return
    for shown in observations:
        court.judge.shown(shown.register, shown.value, reading)
        if shown.register in truth and truth[shown.register] != shown.value:
            what = f"{shown.register.name} is {shown.value}, the database has {truth[shown.register]}"
            court.judge.report(Finding.DATABASE_DIFFERS, reading, what, cause=shown.register.name)
