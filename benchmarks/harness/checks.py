"""What is measured must be what the page says: the same body from all, and from where zpmeow in this state answers."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from urllib.parse import urlsplit

from benchmarks.harness.stage import Target
from benchmarks.harness.subjects import Subject
from benchmarks.harness.wrk import LoadFailedError
from tests.coherence.http_client import Answer, HttpClient, Request

_ATTEMPTS = 3  # An entry may have expired just now: then the first read fetches it, and the next one finds it.


def bodies(subject: Subject, targets: Sequence[Target]) -> dict[str, bytes]:
    """Read each of these sessions once; return the bodies by the sessions' ids. Raises LoadFailedError."""
    return {target.session_id: _read(subject, target).body for target in targets}


def require_same_bodies(subject: Subject, targets: Sequence[Target], expected: Mapping[str, bytes]) -> None:
    """Read each of these sessions once. Raises LoadFailedError: a body is another one than expected."""
    for session_id, body in bodies(subject, targets).items():
        if body != expected[session_id]:
            message = f"{subject.name} answers {body!r} instead of {expected[session_id]!r}"
            raise LoadFailedError(message)


def require_source(subject: Subject, target: Target, cache_status: str) -> None:
    """Read a session. Raises LoadFailedError: the answer does not come from there, by its Cache-Status."""
    for _ in range(_ATTEMPTS):
        found = _read(subject, target).cache_status
        if found == cache_status:
            return
    message = f"{subject.name} answers with Cache-Status {found!r}, not {cache_status!r}"
    raise LoadFailedError(message)


def _read(subject: Subject, target: Target) -> Answer:
    answer = asyncio.run(_ask(subject, Request(method="GET", path=target.path, key=target.key)))
    if answer.status != 200:
        message = f"{subject.name}: {target.path} was answered {answer.status}"
        raise LoadFailedError(message)
    return answer


async def _ask(subject: Subject, request: Request) -> Answer:
    port = urlsplit(subject.url).port
    assert port is not None
    with closing(HttpClient(port)) as client:
        return await client.ask(request)
