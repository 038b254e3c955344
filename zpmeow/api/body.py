"""From bytes to a model: media type, size, time, syntax and schema, refused in this order.

A refusal names each wrong field and its rule, never the value: it may be a key.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import TypeVar

import orjson
from aiohttp import HttpVersion11, web
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from zpmeow.api.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidInput,
    InvalidJson,
    MalformedRequest,
    UnsupportedMediaType,
)

MAX_BODY_BYTES = 1024 * 1024
_MEDIA_TYPE = re.compile(r'application/json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?;?\s*', re.IGNORECASE)
_FIELD_NAME = re.compile(r"(?!zpm_)[A-Za-z0-9_.-]{1,40}")
_MOST_ERRORS_TOLD = 20

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(
    request: web.Request, model: type[ModelT], *, timeout_seconds: float, may_be_missing: bool
) -> ModelT:
    """Read the body as the model.

    Args:
        request: its body must not have been read yet.
        model: what the body must be.
        timeout_seconds: how long the whole body may take to arrive.
        may_be_missing: no body at all means the model's defaults.

    Raises:
        RequestRefused: the body is not what it must be.
    """
    if may_be_missing and not request.body_exists:
        return model()
    _check_head(request)
    body = await _read_bytes(request, timeout_seconds)
    if may_be_missing and not body:
        return model()
    try:
        orjson.loads(body)  # orjson knows RFC 8259 to the letter; pydantic would take NaN.
    except orjson.JSONDecodeError as error:
        raise InvalidJson(str(error)) from None
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidInput(_tell(error, whole="body")) from None


def read_query(request: web.Request, model: type[ModelT]) -> ModelT:
    """Read the query as the model. Raises InvalidInput."""
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            message = f"{_shown(name)}: must be given once"
            raise InvalidInput(message)
    try:
        return model.model_validate_strings(dict(query))
    except ValidationError as error:
        raise InvalidInput(_tell(error, whole="query")) from None
    except UnicodeEncodeError:
        message = "query: must be UTF-8"
        raise InvalidInput(message) from None


def _check_head(request: web.Request) -> None:
    media_type = request.headers.get("Content-Type")
    if media_type is None or not _MEDIA_TYPE.fullmatch(media_type):
        message = "Content-Type must be application/json"
        raise UnsupportedMediaType(message)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "the body must not be compressed"
        raise UnsupportedMediaType(message)
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise _too_large()


async def _read_bytes(request: web.Request, timeout_seconds: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_seconds):
            if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
                await _invite_body(request)
            return await request.read()
    except TimeoutError:
        message = f"the body must arrive within {timeout_seconds:g} s"
        raise BodyTooSlow(message) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except (web.RequestPayloadError, ConnectionError, asyncio.IncompleteReadError):
        message = "the body broke off or is framed wrongly"
        raise MalformedRequest(message) from None


async def _invite_body(request: web.Request) -> None:
    """Tell a caller that waits for it to send the body: only now, when nothing else refused the request."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # The answer proper has not begun: aiohttp may still replace it by an error.


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"at most {MAX_BODY_BYTES} bytes")


def _tell(error: ValidationError, *, whole: str) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [_tell_one(line, whole) for line in found[:_MOST_ERRORS_TOLD]]
    if len(found) > _MOST_ERRORS_TOLD:
        told.append(f"and {len(found) - _MOST_ERRORS_TOLD} more")
    return "; ".join(told)


def _tell_one(line: ErrorDetails, whole: str) -> str:
    match line["type"]:
        case "missing":
            rule = "is required"
        case "extra_forbidden":
            rule = "is not known here"
        case "uuid_parsing":
            rule = "must be a UUID"
        case _:
            rule = line["msg"].replace("Input should be", "must be", 1)
    return f"{_path(line['loc']) or whole}: {rule}"


def _path(location: Sequence[int | str]) -> str:
    return ".".join(str(part) if isinstance(part, int) else _shown(part) for part in location)


def _shown(name: str) -> str:
    """Return the field's name, unless it looks like a value that went astray."""
    return name if _FIELD_NAME.fullmatch(name) else "(unknown field)"
