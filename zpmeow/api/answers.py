"""What a handler hands back, and how it becomes bytes: the envelope, the caching headers, the refusals.

Nothing here knows the request: an `Answer` is finished by `endpoint`, which adds what every answer carries.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from zpmeow.api.refusals import INTERNAL_ERROR, BodyTooSlow, MethodNotAllowed, Refusal, refusal_for
from zpmeow.api.repeatable import Repeatable
from zpmeow.domain.errors import Unauthorized, Unavailable
from zpmeow.domain.records import ReadSource

JSON = "application/json"
NO_STORE = "no-store"
REVALIDATE = "private, no-cache"
VARY = "Accept, Authorization, X-API-Key"

# RFC 9211: who answered, seen from this service.
CACHE_STATUS: Mapping[ReadSource, str] = {
    ReadSource.LOCAL: "zpmeow-local; hit",
    ReadSource.REDIS: "zpmeow-redis; hit",
    ReadSource.MISS: "zpmeow; fwd=miss",
    ReadSource.BYPASS: "zpmeow; fwd=bypass",
    ReadSource.STALE: "zpmeow; hit; detail=stale",
}

_ENCODING = orjson.OPT_UTC_Z


@dataclass(slots=True, kw_only=True)
class Answer:
    """A status, a body and the headers that this one answer needs.

    `closes`: the connection must not be used again. `repeatable`: what it takes to give it again, if it may be.
    `written_head`: what `completion` has written of it, once it has.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON
    cache_control: str = NO_STORE
    cache_status: str | None = None
    headers: Mapping[str, str] | None = None
    closes: bool = False
    repeatable: Repeatable | None = None
    written_head: bytes | None = field(default=None, repr=False, compare=False)


def success(data: Mapping[str, object], *, status: int = 200, source: ReadSource | None = None) -> Answer:
    """Wrap data that must not be stored anywhere; `source` is who answered a read."""
    return Answer(
        body=encode({"success": True, "code": status, "data": data}),
        status=status,
        cache_status=None if source is None else CACHE_STATUS[source],
    )


def encoded_success(data: Mapping[str, object]) -> bytes:
    """Return the body of an answer with these data."""
    return encode({"success": True, "code": 200, "data": data})


def revalidated(body: bytes, *, source: ReadSource, etag: str, repeatable: Repeatable | None = None) -> Answer:
    """Wrap a body that a caller may keep as long as it asks each time whether it still holds."""
    return Answer(
        body=body,
        repeatable=repeatable,
        cache_control=REVALIDATE,
        cache_status=CACHE_STATUS[source],
        headers={"ETag": etag, "Vary": VARY},
    )


def not_modified(*, source: ReadSource, etag: str, repeatable: Repeatable | None = None) -> Answer:
    """Say that what the caller keeps still holds."""
    return Answer(
        body=b"",
        repeatable=repeatable,
        status=304,
        cache_control=REVALIDATE,
        cache_status=CACHE_STATUS[source],
        headers={"ETag": etag, "Vary": VARY},
    )


def refused(error: Exception) -> Answer:
    """Tell an expected error."""
    refusal = refusal_for(error)
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="zpmeow"'
    elif isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    return failure(refusal, str(error), headers=headers, closes=isinstance(error, BodyTooSlow))


def crashed() -> Answer:
    """Tell an error that nobody expected, and nothing of it."""
    return failure(INTERNAL_ERROR, "")


def failure(
    refusal: Refusal,
    details: str,
    *,
    data: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
    closes: bool = False,
) -> Answer:
    """Wrap a failure; `data` stays null but for health checks."""
    error = {"code": refusal.code, "message": refusal.message, "details": details}
    return Answer(
        body=encode({"success": False, "code": refusal.status, "data": data, "error": error}),
        status=refusal.status,
        headers=headers,
        closes=closes,
    )


def encode(value: object) -> bytes:
    """Return the value as JSON; times are RFC 3339 in UTC with Z."""
    return orjson.dumps(value, option=_ENCODING)
