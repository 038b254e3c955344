"""A line of the table of routes, and a call of one: everything that router, pipeline and OpenAPI document need.

`Route` says who may call, what must be sent and what comes back; `endpoint` does as it says, `openapi`
writes it down.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from aiohttp import web

from zpmeow.api.answers import Answer
from zpmeow.api.exposition import Exposition
from zpmeow.api.pictures import Pictures
from zpmeow.domain.errors import DomainError
from zpmeow.domain.records import Entity
from zpmeow.services.access import Access, AccessService, Admission
from zpmeow.services.cache_control import CacheControl
from zpmeow.services.commands import CommandService
from zpmeow.services.health import HealthService
from zpmeow.services.log_control import LogControl
from zpmeow.services.sessions import NOTHING, SessionService

# What the caller sends as body or query: a model of `inputs`, or None.
InputT = TypeVar("InputT")


@dataclass(slots=True, frozen=True, kw_only=True)
class ApiServices:
    """What the routes stand on.

    Attributes:
        access: admits callers.
        sessions: the use cases of sessions.
        commands: what engines are told to do.
        pictures: draws codes.
        health: how the parts are.
        cache_control: the operator's hand on the cache.
        log_control: the operator's hand on the log.
        exposition: writes the metrics down.
        is_loopback: the service listens on a loopback address only, so `/metrics` and the reasons in
            `/health` need no key.
        metrics_token: opens `/metrics`; empty: only the operator's key does.
        epoch_tag: changes whenever row versions may begin anew, so that no ETag means two things.
        now: the time that answers to writes carry.
    """

    access: AccessService
    sessions: SessionService
    commands: CommandService
    pictures: Pictures
    health: HealthService
    cache_control: CacheControl
    log_control: LogControl
    exposition: Exposition
    is_loopback: bool
    metrics_token: str = field(default="", repr=False)
    epoch_tag: Callable[[], str]
    now: Callable[[], datetime]


@dataclass(slots=True, kw_only=True)
class Call(Generic[InputT]):
    """One request that was let in, what its path names, and what it sent."""

    services: ApiServices
    request: web.Request
    names: Mapping[str, str]
    presented: str | None = field(repr=False)
    admitted: Admission | None
    input: InputT = field(repr=False)

    @property
    def admission(self) -> Admission:
        """The admission; an error on a route that is open to all."""
        assert self.admitted is not None, "this route admits everybody"
        return self.admitted


@dataclass(slots=True, frozen=True, kw_only=True)
class Route(Generic[InputT]):
    """One method of one path.

    Attributes:
        access: whose keys open it; None: the handler itself decides, or everybody may.
        entities: the records it answers with, so that a session's key is looked up together with them.
        body, query: the model of what is sent; at most one of the two.
        body_may_be_missing: no body means the model's defaults.
        data: the shape of `data` in the answer.
        media_types: what it answers with besides JSON.
        errors: what the domain may refuse here, besides what any route may meet.
        revalidates: it knows ETag and If-None-Match.
        needs_own_key: it refuses by itself who may not call.
        within_budget: its cache calls share one deadline; not so for work that is long by nature.
        waits: it may wait for news; a caller who hangs up cancels it.
        is_safe: asking changes nothing, so that a GET answers HEAD, too.
        documented: it stands in the OpenAPI document.
    """

    method: str
    path: str
    handler: Callable[[Call[InputT]], Awaitable[Answer]]
    summary: str
    access: Access | None = None
    entities: frozenset[Entity] = NOTHING
    body: type[InputT] | None = None
    body_may_be_missing: bool = False
    query: type[InputT] | None = None
    status: int = 200
    data: Any = None  # A TypedDict class, which no static type describes.
    media_types: tuple[str, ...] = ()
    errors: tuple[type[DomainError], ...] = ()
    unavailable_data: Any = None
    revalidates: bool = False
    needs_own_key: bool = False
    within_budget: bool = True
    waits: bool = False
    is_safe: bool = True
    documented: bool = True

    @property
    def names_session(self) -> bool:
        """Whether the path holds `{sessionId}`."""
        return "{sessionId}" in self.path
