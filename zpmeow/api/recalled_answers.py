"""Answers that are given again as they are, for as long as nothing of what they were made of has changed.

    request ── the same path and key as before? ── current? ──→ the same bytes, with an id and a date of their own
                  │ no                                │ no
                  └───────────────────────────────────┴──→ the way of every request (`endpoint`)

An answer is kept by what it was asked with: path and key as they were sent, the key as a hash. Whether it still holds
is asked of the cache each time, so that nobody is answered longer, or with less right, than on the long way. The entry
of the session's own record owns the answer: when the entry goes, for whatever reason, the answer goes with it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakValueDictionary

from aiohttp import HttpVersion11, web

from zpmeow.api.answers import JSON, Answer
from zpmeow.api.caller import request_id
from zpmeow.api.completion import head_of, lasting_headers
from zpmeow.api.negotiation import still_holds
from zpmeow.api.repeatable import Repeatable
from zpmeow.api.written_response import WrittenResponse, date_line
from zpmeow.domain.api_key import hash_api_key
from zpmeow.domain.records import SnapshotRecall
from zpmeow.events import Observer, RequestFinished, RequestStarted

_OK = 200
_NOT_MODIFIED = 304
_STARTED = RequestStarted()
# Whoever sends one of these is answered on the long way.
_UNUSUAL = ("Authorization", "Expect", "Content-Length", "Transfer-Encoding", "Upgrade")
_OWN_BYTES = 1_400  # Of an answer that is kept, besides its bytes and path: hash, recall, places. Measured with 5,000.


@dataclass(slots=True, frozen=True, kw_only=True)
class _KeptAnswer:
    recall: SnapshotRecall
    until: datetime | None
    etag: str
    route: str
    cache_status: str | None
    head: bytes
    not_modified_head: bytes
    body: bytes


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Place:
    """What the notes of a session's record own; its answer is another one when one of the other records changes."""

    answer: _KeptAnswer


class RecalledAnswers:
    """The answers that are kept, by path and key."""

    def __init__(self, *, observer: Observer, now: Callable[[], datetime], is_on: Callable[[], bool]) -> None:
        """Tell `observer` of each request that is answered here; `now` is the database's clock.

        `is_on`: whether requests are answered here at all.
        """
        self._observer = observer
        self._now = now
        self._is_on = is_on
        self._places: WeakValueDictionary[tuple[str, bytes], _Place] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._places)

    def answer(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Answer the request, if it is one that was answered before and the answer still holds."""
        if not self._places:
            return None
        started = time.perf_counter()
        asked = self._asked(request)
        place = None if asked is None else self._places.get(asked)
        if place is None:
            return None
        kept = place.answer
        if (kept.until is not None and kept.until <= self._now()) or not kept.recall.repeat():
            return None
        observer, identity = self._observer, request_id(request)
        observer(_STARTED)
        tags = request.headers.get("If-None-Match")
        if tags is not None and still_holds(tags, kept.etag):
            status, head, body = _NOT_MODIFIED, kept.not_modified_head, b""
        else:
            status, head, body = _OK, kept.head, kept.body
        data = b"%bX-Request-ID: %b\r\n%b\r\n%b" % (head, identity.encode(), date_line(), body)
        observer(
            RequestFinished(
                request_id=identity,
                method="GET",
                route=kept.route,
                status=status,
                duration_seconds=time.perf_counter() - started,
                cache_status=kept.cache_status,
            )
        )
        return WrittenResponse(data, keep_alive=True)

    def keep(self, request: web.Request, answer: Answer, repeatable: Repeatable, *, route: str) -> None:
        """Keep an answer for the next request that asks the same, if there is room for it.

        `answer` went to a caller who gets the body or has it already: all that is taken from it are the headers that
        both would get.
        """
        asked, body = self._asked(request), repeatable.body
        if asked is None:
            return
        place = self._places.get(asked)
        if place is None and not repeatable.notes.has_room(len(body) + _OWN_BYTES):
            return  # Before anything is made for it: a full record is asked for as often as any.
        shared = lasting_headers(answer)
        shared.pop("Content-Type", None)
        head = head_of(_OK, {**shared, "Content-Type": JSON, "Content-Length": str(len(body))})
        not_modified_head = head_of(_NOT_MODIFIED, shared)
        size_bytes = len(head) + len(not_modified_head) + len(body) + len(request.raw_path) + _OWN_BYTES
        if place is None and not repeatable.notes.has_room(size_bytes):
            return
        recall = repeatable.make_recall()
        if recall is None:
            return
        kept = _KeptAnswer(
            recall=recall,
            until=repeatable.until,
            etag=repeatable.etag,
            route=route,
            cache_status=answer.cache_status,
            head=head,
            not_modified_head=not_modified_head,
            body=body,
        )
        if place is not None:
            place.answer = kept
            return
        place = self._places[asked] = _Place(kept)
        repeatable.notes.keep_alive(place, size_bytes)

    def _asked(self, request: web.BaseRequest) -> tuple[str, bytes] | None:
        """Return what is asked for and with which key, as they were sent; None for what always goes the long way."""
        headers = request.headers
        key = headers.get("X-API-Key")
        # What is nothing but blanks is no key; who sends that may be let in by another header.
        if not key or not key.isascii() or key != key.strip() or request.method != "GET" or not self._is_on():
            return None
        if request.version != HttpVersion11 or not request.keep_alive or any(name in headers for name in _UNUSUAL):
            return None
        return request.raw_path, hash_api_key(key)
