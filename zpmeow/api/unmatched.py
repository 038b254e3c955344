"""What no route matches: 404, or 405 with the methods that the path does know. In JSON, like everything else.

aiohttp refuses such requests by an HTTPException, some of them (`OPTIONS *`, `CONNECT`, odd expectations) before
any route or middleware could see them. So `server` catches these around the whole application.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from zpmeow.api.answers import Answer
from zpmeow.api.endpoint import Endpoint
from zpmeow.api.refusals import MethodNotAllowed, RouteNotFound
from zpmeow.api.route import Call, Route

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def _refuse(call: Call[None]) -> Answer:
    found = call.request.match_info.http_exception
    if isinstance(found, web.HTTPMethodNotAllowed):
        raise MethodNotAllowed(sorted(found.allowed_methods))
    message = "see /docs for what there is"
    raise RouteNotFound(message)


UNMATCHED_ROUTE = Route(method="*", path="unmatched", handler=_refuse, summary="Nothing lives here", documented=False)
UNMATCHED = web.AppKey("unmatched", Endpoint)


def refusing_unmatched(app: web.Application, handler: Handler) -> Handler:
    """Return the application's handler, with what no route matches answered by the application's own refusal."""
    unmatched = app[UNMATCHED]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:
            assert isinstance(request, web.Request)
            return await unmatched.answer(request)

    return answer
