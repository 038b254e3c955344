"""The way of a request: let in → read → handle → answer, with the refusals in this order. What was answered before is
answered again, or let in again, by what it was made of (`recalled_answers`).

    request ── local? ── key? ── access? ── body or query ── handler ── answer
                 │403     │401     │403      │415 413 400 422   │404 409 503

Every answer, refusals included, leaves through `respond`, which adds what all answers carry; every request
makes one RequestStarted and one RequestFinished. An error that nobody expected becomes a 500 that tells nothing
of it, and a RequestCrashed. If the handler is cancelled (the stop's patience ended), the request counts as
finished and the cancellation goes on; so it does if the caller hangs up where a route waits.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import hdrs, web

from zpmeow.api.answers import Answer, crashed, refused
from zpmeow.api.body import read_body, read_query
from zpmeow.api.caller import check_is_local, presented_key, request_id
from zpmeow.api.completion import respond
from zpmeow.api.hang_up import cancelled_by_hang_up
from zpmeow.api.recalled_answers import KeptAnswer, RecalledAnswers
from zpmeow.api.refusals import EXPECTED_ERRORS
from zpmeow.api.route import ApiServices, Call, Route
from zpmeow.api.text_rules import NAME
from zpmeow.cache.call_budget import open_budget
from zpmeow.domain.errors import SessionNotFound, Unavailable
from zpmeow.domain.patience import patience_until
from zpmeow.domain.references import ByName
from zpmeow.events import Observer, RequestCrashed, RequestFinished, RequestStarted
from zpmeow.services.access import Admission
from zpmeow.services.pauses import counting_pauses

# What a request counts as whose caller gets no answer: one that was cancelled at the stop, and one whose caller hung up
# (as nginx has it: no failure of ours).
_ABANDONED = 503
_HUNG_UP = 499


@dataclass(slots=True)
class Draining:
    """Whether the stop has begun: then every answer closes its connection, and nobody waits any more."""

    end_waits: Callable[[], None]
    begun: bool = False

    def begin(self) -> None:
        """Begin; those who wait are answered at once."""
        self.begun = True
        self.end_waits()


DRAINING = web.AppKey("draining", Draining)
RECALLED = web.AppKey("recalled", RecalledAnswers)


@dataclass(slots=True, frozen=True, kw_only=True)
class Pipeline:
    """What the way of every request needs, besides its route.

    Attributes:
        recalled: answers that may be given again.
        cache_budget_seconds: what the cache calls of one request may take together.
        truth_seconds: for how long one request may wait for the database.
        body_timeout_seconds: how long a body may take to arrive.
    """

    services: ApiServices
    observer: Observer
    draining: Draining
    recalled: RecalledAnswers
    cache_budget_seconds: float
    truth_seconds: float
    body_timeout_seconds: float


class Endpoint:
    """One route, as aiohttp calls it."""

    def __init__(self, *, route: Route[Any], pipeline: Pipeline) -> None:
        """Answer requests for the route."""
        self._route = route
        self._pipeline = pipeline
        self._guards = not pipeline.services.access.asks_for_key
        self._open_budget: Callable[[float], AbstractContextManager[object]] = (
            open_budget if route.within_budget else lambda _: nullcontext()
        )
        self._limit_patience: Callable[[float], AbstractContextManager[object]] = (
            patience_until if route.within_budget else lambda _: nullcontext()
        )

    async def answer(
        self, request: web.Request, names: Mapping[str, str] | None = None, kept: KeptAnswer | None = None
    ) -> web.StreamResponse:
        """Answer the request, whatever happens.

        `names`: what its path names; None: aiohttp's router has found that. `kept`: its answer, if that is the same as
        before.
        """
        if names is None:
            names = dict(request.match_info)
        pipeline = self._pipeline
        observer = pipeline.observer
        identity = request_id(request)
        status, cache_status = _ABANDONED, None
        observer(RequestStarted())
        started = time.perf_counter()
        pauses: counting_pauses | None = None
        try:
            with self._open_budget(pipeline.cache_budget_seconds):
                if self._route.waits:
                    with counting_pauses(observer) as pauses, cancelled_by_hang_up(request):
                        answer = await self._answer(request, identity, names, kept)
                else:
                    answer = await self._answer(request, identity, names, kept)
            status, cache_status = answer.status, answer.cache_status
            response = respond(request, answer, identity, closes=pipeline.draining.begun)
        except asyncio.CancelledError:
            status = _HUNG_UP if request.transport is None else _ABANDONED
            raise
        else:
            if answer.repeatable is not None:
                ask = partial(self.answer, names=names)
                pipeline.recalled.keep(request, answer.repeatable, route=self._route.path, ask=ask)
            return response
        finally:
            observer(
                RequestFinished(
                    request_id=identity,
                    method=self._method(request),
                    route=self._route.path,
                    status=status,
                    duration_seconds=time.perf_counter() - started,
                    cache_status=cache_status,
                    waited_seconds=0.0 if pauses is None else pauses.seconds,
                )
            )

    def _method(self, request: web.Request) -> str:
        """Return the method, one of a few: callers can make up others, and each would be a label of its own."""
        return request.method if request.method in hdrs.METH_ALL else self._route.method

    async def _answer(
        self, request: web.Request, identity: str, names: Mapping[str, str], kept: KeptAnswer | None
    ) -> Answer:
        try:
            return await self._handle(request, names, kept)
        except EXPECTED_ERRORS as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001  (the boundary: what nobody expected is told once, here)
            self._pipeline.observer(RequestCrashed(identity, self._method(request), self._route.path, error))
            return crashed()

    async def _handle(self, request: web.Request, names: Mapping[str, str], kept: KeptAnswer | None) -> Answer:
        route, services = self._route, self._pipeline.services
        if self._guards:
            check_is_local(request)
        patience_ends_at = time.monotonic() + self._pipeline.truth_seconds
        admission = None
        with self._limit_patience(patience_ends_at):
            if kept is not None:
                again = await self._read_again(kept, request)
                if isinstance(again, Answer):
                    return again
                admission = again
            presented = presented_key(request)
            if route.access is not None and admission is None:
                services.health.check_started()
                admission = await services.access.admit(
                    presented=presented,
                    access=route.access,
                    session=names.get("sessionId"),
                    entities=route.entities,
                )
        left_seconds = patience_ends_at - time.monotonic()
        sent = await self._read_input(request)
        if admission is not None and isinstance(admission.reference, ByName):
            _check_is_name(admission.reference)
        with self._limit_patience(time.monotonic() + left_seconds):
            return await route.handler(
                Call(
                    services=services,
                    request=request,
                    names=names,
                    presented=presented,
                    admitted=admission,
                    input=sent,
                )
            )

    async def _read_again(self, kept: KeptAnswer, request: web.Request) -> Answer | Admission | None:
        """Return the same answer if its records are the same, an admission with what was read if they have changed.

        None: whoever asks has to be let in anew. Where the database does not answer, either: the name or the key may
        lead to another session by now, which the cache has.
        """
        recalled = self._pipeline.recalled
        try:
            snapshot = await kept.recall.read()
        except Unavailable:
            snapshot = None
        if snapshot is not None:
            answer = recalled.confirm(kept, snapshot, request)
            if answer is not None:
                return answer
        admission = None if snapshot is None else kept.admit(snapshot)
        if admission is None:
            recalled.drop(kept)
        return admission

    async def _read_input(self, request: web.Request) -> object:
        route = self._route
        if route.body is not None:
            return await read_body(
                request,
                route.body,
                timeout_seconds=self._pipeline.body_timeout_seconds,
                may_be_missing=route.body_may_be_missing,
            )
        return None if route.query is None else read_query(request, route.query)


def _check_is_name(reference: ByName) -> None:
    """Refuse what cannot be a name before it reaches a database that could not even store it."""
    if not NAME.allows(reference.name):
        message = "no session has that id or name"
        raise SessionNotFound(message)
