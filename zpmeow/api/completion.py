"""From an answer to the response that goes over the line: what every answer carries is added here.

Most are written down by ourselves, at a third of what aiohttp's `Response` costs; what is not plain HTTP/1.1 is left to
aiohttp.
"""

from collections.abc import Mapping
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
_WITHOUT_LENGTH = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def lasting_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that are the same whenever this answer is given."""
    headers = {**_COMMON, "Cache-Control": answer.cache_control}
    if answer.body:
        headers["Content-Type"] = answer.content_type
    if answer.cache_status is not None:
        headers["Cache-Status"] = answer.cache_status
    if answer.headers is not None:
        headers.update(answer.headers)
    return headers


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the status line and these headers, as they are sent; the head does not end here."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{_STATUS_LINES[status]}{lines}".encode("latin-1")


def complete(answer: Answer, identity: str) -> web.Response:
    """Return the answer as aiohttp wants it."""
    headers = {**lasting_headers(answer), "X-Request-ID": identity}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if answer.closes:
        response.force_close()
    return response


def respond(request: web.Request, answer: Answer, identity: str) -> web.StreamResponse:
    """Return the answer to a request that came whole."""
    if request.version != HttpVersion11 or request.method == "HEAD":
        return complete(answer, identity)
    headers = lasting_headers(answer)
    headers["X-Request-ID"] = identity
    if answer.status not in _WITHOUT_LENGTH:
        headers["Content-Length"] = str(len(answer.body))
    keep_alive = request.keep_alive and not answer.closes
    if not keep_alive:
        headers["Connection"] = "close"
    data = b"".join((head_of(answer.status, headers), date_line(), b"\r\n", answer.body))
    return WrittenResponse(data, keep_alive=keep_alive)
