"""From an answer to the response that goes over the line: what every answer carries is added here.

Most are written down by ourselves, at a third of what aiohttp's `Response` costs; what is not plain HTTP/1.1 is left to
aiohttp.
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web

from zpmeow.api.answers import Answer
from zpmeow.api.written_response import WrittenResponse, date_line

# On every answer. Nothing here is meant to be shown inside, run by, or read from another page.
_COMMON: Final[Mapping[str, str]] = {
    "Server": "zpmeow",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_USUAL = frozenset({*_COMMON, "Cache-Control", "Content-Type", "Cache-Status"})
_WITHOUT_LENGTH = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def complete(answer: Answer, identity: str, *, closes: bool) -> web.Response:
    """Return the answer as aiohttp wants it."""
    headers = {**_lasting_headers(answer), "X-Request-ID": identity}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if closes or answer.closes:
        response.force_close()
    return response


def respond(request: web.BaseRequest, answer: Answer, identity: str, *, closes: bool = False) -> web.StreamResponse:
    """Return the answer to a request that came whole. `closes`: the connection must not be used again."""
    if request.version != HttpVersion11 or request.method == "HEAD":
        return complete(answer, identity, closes=closes)
    head = answer.written_head
    if head is None:
        head = answer.written_head = _write_head(answer)
    keep_alive = request.keep_alive and not closes and not answer.closes
    own = b"X-Request-ID: %b\r\n%b" % (identity.encode(), b"" if keep_alive else b"Connection: close\r\n")
    return WrittenResponse(b"".join((head, own, date_line(), b"\r\n", answer.body)), keep_alive=keep_alive)


def _lasting_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that are the same whenever this answer is given."""
    return {**_usual_headers(*_kind_of(answer)), **(answer.headers or {})}


def _write_head(answer: Answer) -> bytes:
    """Write what is the same whenever this answer is given: most answers differ in very few of it."""
    own = dict(answer.headers or {})
    if answer.status not in _WITHOUT_LENGTH:
        own["Content-Length"] = str(len(answer.body))
    if _USUAL.isdisjoint(own):
        return _usual_head(answer.status, *_kind_of(answer)) + _lines_of(own)
    return _head_of(answer.status, {**_lasting_headers(answer), **own})


def _head_of(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and these headers, as they are sent; the head does not end here."""
    return _STATUS_LINES[status].encode("latin-1") + _lines_of(headers)


def _kind_of(answer: Answer) -> tuple[str, str | None, str | None]:
    return answer.cache_control, answer.content_type if answer.body else None, answer.cache_status


def _usual_headers(cache_control: str, content_type: str | None, cache_status: str | None) -> dict[str, str]:
    headers = {**_COMMON, "Cache-Control": cache_control}
    if content_type is not None:
        headers["Content-Type"] = content_type
    if cache_status is not None:
        headers["Cache-Status"] = cache_status
    return headers


@lru_cache(maxsize=256)  # All of it is written by the code.
def _usual_head(status: int, cache_control: str, content_type: str | None, cache_status: str | None) -> bytes:
    return _head_of(status, _usual_headers(cache_control, content_type, cache_status))


def _lines_of(headers: Mapping[str, str]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
