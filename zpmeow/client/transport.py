"""One request and its answer, tried again while the service is away: backoff with jitter, within a patience.

Tried again is what says "not now" (a failure of the service, a refused or broken connection, no answer in time, a
proxy's page), never what says "no". What must not be done twice is tried again only if nothing was done: the connection
was refused, or the service said so.
"""

import random
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, stop_never

from zpmeow.client.errors import Refused, ServiceAway

ANSWER_SECONDS: Final = 15.0
"""How long an answer may take: longer than the service's own deadlines (DB_TIMEOUT is 5 s)."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_UNTOUCHED = frozenset({"OVERLOADED", "STOPPING"})


class Transport:
    """Requests to one service."""

    def __init__(self, *, base_url: str, api_key: str | None, patience_seconds: float) -> None:
        """Call the service at `base_url`, which may be a proxy's; give up after `patience_seconds`."""
        self._base_url = base_url.rstrip("/")
        self._headers = {} if api_key is None else {"X-API-Key": api_key}
        self._patience_seconds = patience_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open connections when they are needed, without a limit: those who wait must not hold up the others."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        assert self._session is not None
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        wait_seconds: int = 0,
        is_repeatable: bool = True,
        gives_up: bool = True,
    ) -> Mapping[str, Any]:
        """Return `data` of the answer.

        Args:
            method: of HTTP.
            path: of the route, its parts quoted.
            body: what is sent, as JSON.
            query: what is asked with.
            wait_seconds: how long the service may wait before it answers.
            is_repeatable: doing it twice is as good as doing it once.
            gives_up: when the patience has run out; else it tries for ever.

        Raises:
            Refused: the service says no.
            ServiceAway: the patience has run out, or it may have been done and must not be done twice.
        """

        def may_try_again(error: BaseException) -> bool:
            return isinstance(error, ServiceAway) and (is_repeatable or error.is_untouched)

        attempts = AsyncRetrying(
            retry=retry_if_exception(may_try_again),
            wait=_pause,
            stop=stop_after_delay(self._patience_seconds) if gives_up else stop_never,
            reraise=True,
        )
        asked: dict[str, str] = dict(query or {})
        if wait_seconds:
            asked["wait"] = str(wait_seconds)
        return await attempts(self._send, method, path, body, asked, ANSWER_SECONDS + wait_seconds)

    async def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        query: Mapping[str, str],
        answer_seconds: float,
    ) -> Mapping[str, Any]:
        assert self._session is not None, "the client must be opened: async with Client(…)"
        timeout = aiohttp.ClientTimeout(total=answer_seconds)
        try:
            # A redirect would take the key along to wherever it leads.
            async with self._session.request(
                method, self._base_url + path, json=body, params=query, timeout=timeout, allow_redirects=False
            ) as answer:
                return _read(answer.status, answer.headers, await _json(answer))
        except aiohttp.ClientConnectorError as error:
            raise ServiceAway(str(error), is_untouched=True) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            message = f"{type(error).__name__}: {error}"
            raise ServiceAway(message) from None


async def _json(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """Read the body; what is not the service's (a proxy's page) is an answer without data."""
    try:
        found = await answer.json(content_type=None)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(status: int, headers: Mapping[str, str], answer: Mapping[str, Any]) -> Mapping[str, Any]:
    data, error = answer.get("data"), answer.get("error")
    if status < HTTPStatus.MULTIPLE_CHOICES and isinstance(data, dict):
        return data
    code = error.get("code") if isinstance(error, dict) else None
    details = str(error.get("details", "")) if isinstance(error, dict) else ""
    # What is not zpmeow's answer comes from something on the way there, which may find it again.
    is_away = status >= HTTPStatus.INTERNAL_SERVER_ERROR or code is None
    if is_away and not HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        message = f"{status} {code or 'is no answer of zpmeow'} {details}".rstrip()
        raise ServiceAway(
            message,
            retry_after_seconds=_retry_after(headers.get("Retry-After", "")),
            is_untouched=code in _UNTOUCHED,
        )
    raise Refused(status=status, code=code or "NO_ANSWER_OF_ZPMEOW", details=details)


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def _pause(state: RetryCallState) -> float:
    """Wait as long as the service wants, and by chance up to twice as long with each try, 5 s at most."""
    error = state.outcome.exception() if state.outcome is not None else None
    wanted = error.retry_after_seconds if isinstance(error, ServiceAway) else 0.0
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(state.attempt_number, 10))
    return wanted + random.random() * longest  # noqa: S311  (a pause, no secret)
