"""What a request says of its caller: the key it presents, the id it goes by, and whether a browser page sent it."""

import re
from random import getrandbits
from typing import NoReturn

from aiohttp import web

from zpmeow.domain.api_key import PREFIX
from zpmeow.domain.errors import Forbidden, Unauthorized

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LOOPBACK = r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?"
_LOOPBACK_HOST = re.compile(_LOOPBACK, re.IGNORECASE)
_LOOPBACK_ORIGIN = re.compile(f"https?://{_LOOPBACK}", re.IGNORECASE)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDING = frozenset({"forwarded", "via", "x-real-ip"})
_FORWARDING_PREFIX = "x-forwarded-"
_BEARER = "bearer "


def presented_key(request: web.Request) -> str | None:
    """Return the key as the caller sent it, None if there is none.

    `X-API-Key: KEY`, `Authorization: Bearer KEY` and a bare `Authorization: KEY` mean the same.

    Raises:
        Unauthorized: the two headers hold different keys, so which one counts would be a guess.
    """
    headers = request.headers
    key = _text(headers.get("X-API-Key"))
    authorization = _text(headers.get("Authorization"))
    if authorization is None:
        return key
    if authorization[: len(_BEARER)].lower() == _BEARER:
        authorization = authorization[len(_BEARER) :].lstrip() or None
    if key is not None and authorization is not None and key != authorization:
        message = "X-API-Key and Authorization hold different keys"
        raise Unauthorized(message)
    return authorization if key is None else key


def request_id(request: web.BaseRequest) -> str:
    """Return the caller's id for this request if it is sane and no key by mistake, else a new one."""
    headers = request.headers
    for name in ("X-Request-ID", "X-Correlation-ID"):
        given = headers.get(name)
        if given is not None and PREFIX not in given and _SANE_ID.fullmatch(given):
            return given
    return f"{getrandbits(128):032x}"  # A name, no secret: `secrets` would ask the system for each.


def check_is_local(request: web.Request) -> None:
    """Refuse what may come from elsewhere, where no key protects the service.

    A proxy tells itself by forwarding headers, a foreign web page by its Origin, and a page that had its
    own name resolved to this machine (DNS rebinding) by the Host.

    Raises:
        Forbidden: the request may come from elsewhere.
    """
    for name in request.headers:
        lowered = name.lower()
        if lowered in _FORWARDING or lowered.startswith(_FORWARDING_PREFIX):
            _refuse("forwarding headers")
    if any(not _LOOPBACK_ORIGIN.fullmatch(origin) for origin in request.headers.getall("Origin", ())):
        _refuse("a foreign Origin")
    if any(not _LOOPBACK_HOST.fullmatch(host) for host in request.headers.getall("Host", ())):
        _refuse("a foreign Host")
    # An absolute request target (GET http://name/…) overrides the Host header.
    if not request.raw_path.startswith(("/", "*")) and request.host.lower() not in _LOOPBACK_NAMES:
        _refuse("a foreign Host")


def _refuse(reason: str) -> NoReturn:
    message = f"without GLOBAL_API_KEY only this machine may call, and the request has {reason}"
    raise Forbidden(message)


def _text(value: str | None) -> str | None:
    """Return what can be encoded; aiohttp hands bytes that are not UTF-8 over as lone surrogates."""
    if value is None or value.isascii():
        return (value or "").strip() or None
    return value.encode("utf-8", "replace").decode().strip() or None
