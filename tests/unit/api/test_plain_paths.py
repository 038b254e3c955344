"""Plain paths: what is found by a look into the dictionary is what aiohttp's router finds."""

from collections.abc import Mapping
from typing import cast
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.http import HttpRequestParser
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st

from zpmeow.api.endpoint import Endpoint
from zpmeow.api.plain_paths import PlainPaths
from zpmeow.api.routes import ROUTES

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "BREW")


class Handler:
    """Stands for the endpoint of one route, in both."""

    def __init__(self, template: str) -> None:
        """Stand for this one."""
        self.template = template

    async def answer(self, _request: web.Request) -> web.StreamResponse:
        """Never called."""
        raise NotImplementedError


def make_both() -> tuple[PlainPaths, web.Application]:
    """Make both from the table of routes."""
    plain, app = PlainPaths(), web.Application()
    for route in ROUTES:
        handler = Handler(route.path)
        app.router.add_route(route.method, route.path, handler.answer)
        plain.add(route.method, route.path, cast("Endpoint", handler))
    app.freeze()
    return plain, app


PLAIN, APP = make_both()


def by_router(request: web.Request) -> tuple[Handler, dict[str, str]] | None:
    """Ask aiohttp's router, which does not wait."""
    resolving = APP.router.resolve(request).__await__()
    with pytest.raises(StopIteration) as ended:
        next(resolving)
    found = ended.value.value
    if found.http_exception is not None:
        return None
    return found.handler.__self__, dict(found)


def by_dictionary(request: web.Request) -> tuple[object, Mapping[str, str]] | None:
    """Ask the dictionary."""
    return PLAIN.find(request)


def requested(method: str, path: str, headers: Mapping[str, str]) -> web.Request:
    """Return the request for a path as aiohttp's server takes it from the wire."""
    parser = HttpRequestParser(Mock(), Mock(), 65536)
    ((message, _body),), _upgraded, _rest = parser.feed_data(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return make_mocked_request(method, "/", headers=headers).clone(rel_url=message.url)


LITERALS = sorted({part for route in ROUTES for part in route.path.split("/") if "{" not in part})
SEGMENTS = st.sampled_from(LITERALS) | st.text("abz09-._~%/{}?[]:@", max_size=6) | st.uuids().map(str)


@given(method=st.sampled_from(METHODS), segments=st.lists(SEGMENTS, max_size=5), has_expectation=st.booleans())
@example(method="GET", segments=["sessions", "list"], has_expectation=False)
@example(method="PATCH", segments=["sessions", "list"], has_expectation=False)
@example(method="GET", segments=["sessions", "..", "info"], has_expectation=False)
@example(method="GET", segments=["sessions", "", "info"], has_expectation=False)
@example(method="GET", segments=["sessions", "a", "info", ""], has_expectation=False)
@example(method="GET", segments=["sessions", "a%2Fb", "info"], has_expectation=False)
@example(method="GET", segments=["", ".%C3%A9"], has_expectation=False)
def test_finds_what_the_router_finds(*, method: str, segments: list[str], has_expectation: bool) -> None:
    """Or leaves it to the router: whatever is written in an unusual way, and whoever sends an expectation."""
    headers = {"Expect": "100-continue"} if has_expectation else {}
    request = requested(method, "/" + "/".join(segments), headers)

    found = by_dictionary(request)

    assert found is None or found == by_router(request)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_found(route: web.RouteDef) -> None:
    """With a plain parameter, without asking the router."""
    path = route.path.replace("{sessionId}", "a-name.x_1~").replace("{id}", "7").replace("{asset}", "a.js")
    request = make_mocked_request(route.method, path)

    found = by_dictionary(request)

    assert found is not None
    assert found == by_router(request)
