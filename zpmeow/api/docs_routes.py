"""The OpenAPI document, and Swagger UI to read it with: bundled, under a policy that lets nothing in from elsewhere."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from zpmeow.api.answers import JSON, Answer, encode
from zpmeow.api.negotiation import still_holds
from zpmeow.api.openapi import make_document
from zpmeow.api.route import Call, Route

# Swagger UI has small pictures in its style sheet; it needs no more than this (seen in Chromium).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Asked again each time, answered with 304: a new release is seen at once and the large bundle sent once.
_CACHING = "no-cache"

_OURS = "zpmeow.api"
_SWAGGER_UI = "swagger_ui"

# Under which path, from which package, which file, of which type.
_FILES = (
    ("/docs", _OURS, "docs.html", "text/html; charset=utf-8"),
    ("/docs/start.js", _OURS, "start.js", "text/javascript; charset=utf-8"),
    ("/docs/swagger-ui.css", _SWAGGER_UI, "swagger-ui.css", "text/css; charset=utf-8"),
    ("/docs/swagger-ui-bundle.js", _SWAGGER_UI, "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("/docs/favicon-32x32.png", _SWAGGER_UI, "favicon-32x32.png", "image/png"),
)


def docs_routes(described: Sequence[Route[Any]]) -> tuple[Route[Any], ...]:
    """Return the routes of the documentation of these routes."""
    return (
        Route(
            method="GET",
            path="/openapi.json",
            handler=_served(lambda: encode(make_document(described)), JSON),
            summary="This document",
            documented=False,
        ),
        *(
            Route(
                method="GET",
                path=path,
                handler=_served(_reader(package, name), content_type),
                summary=name,
                documented=False,
            )
            for path, package, name, content_type in _FILES
        ),
    )


def _reader(package: str, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        return resources.files(package).joinpath("static", name).read_bytes()

    return read


def _served(read: Callable[[], bytes], content_type: str) -> Callable[[Call[None]], Awaitable[Answer]]:
    """Make the handler of content that never changes while the process lives; it is read at its first use.

    Reading happens in a thread: importing swagger-ui-py takes 0.2 s, making the document 0.1 s.
    """

    @cache
    def content() -> tuple[bytes, str]:
        body = read()
        return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'

    async def serve(call: Call[None]) -> Answer:
        body, etag = await asyncio.to_thread(content)
        headers = {"ETag": etag, "Content-Security-Policy": _POLICY}
        if still_holds(call.request.headers.get("If-None-Match"), etag):
            return Answer(body=b"", status=304, content_type=content_type, cache_control=_CACHING, headers=headers)
        return Answer(body=body, content_type=content_type, cache_control=_CACHING, headers=headers)

    return serve
