"""Holds every answer of these tests against the OpenAPI document: an undocumented one fails its test."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import orjson

from zpmeow.api.openapi import make_document
from zpmeow.api.routes import API_ROUTES


@cache
def document() -> dict[str, Any]:
    """Return the document, as a caller would get it."""
    whole: dict[str, Any] = orjson.loads(orjson.dumps(make_document(API_ROUTES)))
    return whole


def check_described(*, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the document describes such an answer to such a request."""
    operation = _operation("GET" if method == "HEAD" else method, path.partition("?")[0])
    if operation is None:
        return
    described = operation["responses"].get(str(status))
    assert described is not None, f"{method} {path} answered {status}, which the document does not know"
    for name in described.get("headers", {}):
        assert name in headers, f"{method} {path} answered {status} without {name}"
    if "content" not in described:
        assert body == b""
        return
    media_type = headers["Content-Type"].partition(";")[0]
    assert media_type in described["content"], f"{method} {path} answered undocumented {media_type}"
    if media_type == "application/json" and method != "HEAD":
        _validator(operation["operationId"], str(status)).validate(orjson.loads(body))


def _operation(method: str, path: str) -> dict[str, Any] | None:
    exact: dict[str, Any] | None = document()["paths"].get(path, {}).get(method.lower())
    if exact is not None:
        return exact
    for template, operations in document()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
            found: dict[str, Any] = operations[method.lower()]
            return found
    return None


@cache
def _validator(operation_id: str, status: str) -> jsonschema_rs.Draft202012Validator:
    operations = (one for path in document()["paths"].values() for one in path.values())
    operation = next(one for one in operations if one["operationId"] == operation_id)
    schema = operation["responses"][status]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document()["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
