"""Answers that are given again as they are, for as long as what they were made of is the same.

    request ── the same path and key as before?
                  │ yes
                  ├── still current in this process' memory? ──→ the same bytes, with an id and a date of their own
                  ├── read its records again: the same? ───────→ the same answer
                  │                           the session's is? ─→ the route's handler, with what was read
                  └── no: it is dropped ───────────────────────→ the way of every request (`endpoint`)

An answer is kept by what it was asked with: path and key as they were sent, the key as a hash. Whether it still holds
is asked of the cache each time, so that nobody is answered with anything older, or with less right, than on the long
way: the record of the session says its name and its key's hash, and was read anew. What is left out is only what the
same records would lead to again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

from aiohttp import HttpVersion11, web
from cachetools import LRUCache

from zpmeow.api.answers import Answer, not_modified, revalidated
from zpmeow.api.caller import request_id
from zpmeow.api.completion import respond
from zpmeow.api.negotiation import still_holds
from zpmeow.api.repeatable import Repeatable
from zpmeow.domain.api_key import hash_api_key
from zpmeow.domain.records import Entity, ReadSource, Record, Snapshot, SnapshotRecall
from zpmeow.events import Observer, RequestFinished, RequestStarted
from zpmeow.services.access import Admission

MAX_BYTES = 32 * 1024**2
"""Of all that is kept: some 8,000 answers of usual size."""

_STARTED = RequestStarted()
# Whoever sends one of these is answered on the long way.
_UNUSUAL = ("Authorization", "Expect", "Content-Length", "Transfer-Encoding", "Upgrade")
_OWN_BYTES = 4_500  # Of an answer that is kept, besides its body and path: records, recall, heads. Measured with 2,000.


@dataclass(slots=True, kw_only=True)
class KeptAnswer:
    """An answer, and how to tell whether it still holds.

    `asked`: path and hash of the key. `route`: the endpoint's. `ask`: asks the endpoint, which is given this answer.
    The other fields are those of `Repeatable`.
    """

    asked: "Asked"
    recall: SnapshotRecall
    records: Mapping[Entity, Record]
    epoch_tag: str
    until: datetime | None
    admission: Admission
    etag: str
    body: bytes
    route: str
    ask: "Ask"
    _given: dict[bool, tuple[ReadSource, Answer]] = field(default_factory=dict, init=False, repr=False)

    async def ask_again(self, request: web.Request) -> web.StreamResponse:
        """Let the endpoint answer that has given this answer."""
        return await self.ask(request, kept=self)

    def is_over(self, now: Callable[[], datetime]) -> bool:
        """Tell whether it has stopped to hold by itself."""
        return self.until is not None and self.until <= now()

    def admit(self, snapshot: Snapshot) -> Admission | None:
        """Admit the same caller to what was read again, if the record that let him in is the same."""
        if snapshot.session != self.records[Entity.SESSION]:
            return None
        return replace(self.admission, snapshot=snapshot)

    def give(self, request: web.BaseRequest, source: ReadSource) -> Answer:
        """Return it as who has it already is told so, or as others get it; made once for each who confirms it."""
        tags = request.headers.get("If-None-Match")
        has_it = tags is not None and still_holds(tags, self.etag)
        given = self._given.get(has_it)
        if given is None or given[0] is not source:
            made = not_modified(source=source, etag=self.etag) if has_it else None
            answer = made or revalidated(self.body, source=source, etag=self.etag)
            given = self._given[has_it] = (source, answer)
        return given[1]


Asked: TypeAlias = tuple[str, bytes]


class Ask(Protocol):
    """An endpoint that knows what the request's path names."""

    async def __call__(self, request: web.Request, /, *, kept: KeptAnswer) -> web.StreamResponse:
        """Answer the request, which has been answered so before."""
        ...


class RecalledAnswers:
    """The answers that are kept, by path and key; the least recently used go first."""

    def __init__(
        self,
        *,
        observer: Observer,
        now: Callable[[], datetime],
        epoch_tag: Callable[[], str],
        is_on: Callable[[], bool],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Keep `max_bytes` at most.

        Args:
            observer: is told of each request that is answered here.
            now: the database's clock.
            epoch_tag: changes whenever the same versions may mean something else.
            is_on: whether requests are answered here at all.
            max_bytes: of all answers together, about.
        """
        self._observer = observer
        self._now = now
        self._epoch_tag = epoch_tag
        self._is_on = is_on
        self._kept: LRUCache[Asked, KeptAnswer] = LRUCache(max_bytes, getsizeof=_size)

    def find(self, request: web.BaseRequest) -> KeptAnswer | None:
        """Return what the same request was answered with before, if that was kept."""
        if not self._kept:
            return None
        asked = self._asked(request)
        return None if asked is None else self._kept.get(asked)

    def repeat(self, kept: KeptAnswer, request: web.BaseRequest) -> web.StreamResponse | None:
        """Answer the request from this process' memory, if the answer still holds by that."""
        started = time.perf_counter()
        if kept.is_over(self._now) or not kept.recall.repeat():
            return None
        observer, identity = self._observer, request_id(request)
        observer(_STARTED)
        answer = kept.give(request, ReadSource.LOCAL)
        response = respond(request, answer, identity)
        observer(
            RequestFinished(
                request_id=identity,
                method="GET",
                route=kept.route,
                status=answer.status,
                duration_seconds=time.perf_counter() - started,
                cache_status=answer.cache_status,
            )
        )
        return response

    def confirm(self, kept: KeptAnswer, snapshot: Snapshot, request: web.BaseRequest) -> Answer | None:
        """Return the same answer for what was read again, if it says the same."""
        if snapshot.records != kept.records or kept.epoch_tag != self._epoch_tag() or kept.is_over(self._now):
            return None
        kept.records = snapshot.records  # If they are the same objects next time, that is told at a glance.
        if snapshot.source is ReadSource.LOCAL and snapshot.make_recall is not None:
            kept.recall = snapshot.make_recall()
        return kept.give(request, snapshot.source)

    def keep(self, request: web.BaseRequest, repeatable: Repeatable, *, route: str, ask: "Ask") -> None:
        """Keep an answer for the next request that asks the same.

        Args:
            request: was answered so, or told that the caller has that already.
            repeatable: the answer, and what tells whether it holds.
            route: the endpoint's.
            ask: asks the endpoint for an answer to such a request.
        """
        asked = self._asked(request)
        if asked is None:
            return
        kept = KeptAnswer(
            asked=asked,
            recall=repeatable.make_recall(),
            records=repeatable.records,
            epoch_tag=repeatable.epoch_tag,
            until=repeatable.until,
            admission=replace(repeatable.admission, snapshot=None),
            etag=repeatable.etag,
            body=bytes(memoryview(repeatable.body)),  # A copy: what orjson makes takes 4 KB, however short it is.
            route=route,
            ask=ask,
        )
        if _size(kept) <= self._kept.maxsize:
            self._kept[asked] = kept

    def drop(self, kept: KeptAnswer) -> None:
        """Keep an answer no longer that does not hold any more, unless another one has taken its place."""
        if self._kept.get(kept.asked) is kept:
            del self._kept[kept.asked]

    def _asked(self, request: web.BaseRequest) -> Asked | None:
        """Return what is asked for and with which key, as they were sent; None for what always goes the long way."""
        headers = request.headers
        key = headers.get("X-API-Key")
        # What is nothing but blanks is no key; who sends that may be let in by another header.
        if not key or not key.isascii() or key != key.strip() or request.method != "GET" or not self._is_on():
            return None
        if request.version != HttpVersion11 or not request.keep_alive:
            return None
        # A query means nothing here, and by ever other ones a caller could crowd all others' answers out.
        if "?" in request.raw_path:
            return None
        for name in _UNUSUAL:
            if name in headers:
                return None
        return request.raw_path, hash_api_key(key)


def _size(kept: KeptAnswer) -> int:
    return len(kept.body) + len(kept.asked[0]) + _OWN_BYTES
