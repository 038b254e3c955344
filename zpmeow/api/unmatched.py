"""What no route matches: 404, or 405 with the methods that the path does know. In JSON, like everything else."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Never

from aiohttp import web
from yarl import URL

from zpmeow.api.answers import Answer
from zpmeow.api.refusals import MethodNotAllowed, RouteNotFound
from zpmeow.api.route import Call, Route


async def _refuse(call: Call[None]) -> Answer:
    allowed: set[str] = set()
    for resource in call.request.app.router.resources():
        if not isinstance(resource, Anything):
            allowed |= (await resource.resolve(call.request))[1]
    if allowed:
        raise MethodNotAllowed(sorted(allowed))
    message = "see /docs for what there is"
    raise RouteNotFound(message)


UNMATCHED = Route(method="*", path="unmatched", handler=_refuse, summary="Nothing lives here", documented=False)


class Anything(web.AbstractResource):
    """A resource that matches every request; aiohttp asks it last, because it stands under `/`.

    aiohttp's own catch-all, `/{tail:.*}`, would not match `OPTIONS *`.
    """

    def __init__(
        self,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        expect_handler: Callable[[web.Request], Awaitable[None]],
    ) -> None:
        """Hand every request to the handler."""
        super().__init__()
        self._route = web.ResourceRoute("*", handler, self, expect_handler=expect_handler)

    @property
    def canonical(self) -> str:
        """Stand under the root."""
        return "/"

    async def resolve(self, _request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Match."""
        return web.UrlMappingMatchInfo({}, self._route), set()

    def raw_match(self, _path: str) -> bool:
        """Be no resource that another route could be added to."""
        return False

    def get_info(self) -> Never:
        """Nobody asks."""
        raise NotImplementedError

    def url_for(self, **_: str) -> URL:
        """There is no one address of everything."""
        raise NotImplementedError

    def add_prefix(self, _prefix: str) -> None:
        """There is no application that this one is part of."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Count the one route."""
        return 1

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        """Go through the one route."""
        return iter((self._route,))
