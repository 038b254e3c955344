"""The OpenAPI 3.1 document, made from the table of routes: the models that validate, the shapes that answer,
the table of refusals.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from zpmeow import __version__
from zpmeow.api.answers import JSON
from zpmeow.api.refusals import (
    INTERNAL_ERROR,
    REFUSALS,
    BodyTooLarge,
    BodyTooSlow,
    InvalidInput,
    InvalidJson,
    MalformedRequest,
    Refusal,
    UnsupportedMediaType,
)
from zpmeow.api.route import Route
from zpmeow.domain.errors import DatabaseUnavailable, Forbidden, Overloaded, Unauthorized

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_OF_BODIES = (InvalidJson, BodyTooSlow, BodyTooLarge, UnsupportedMediaType, InvalidInput)
_OF_ALL = (MalformedRequest, Forbidden)
_UNAVAILABLE = (DatabaseUnavailable, Overloaded)
_HEADERS = {
    "X-Request-ID": "The caller's id for this request if it sent a sane one, else a new one.",
    "ETag": "Names this very content.",
    "Cache-Status": "Who answered (RFC 9211).",
    "Retry-After": "Seconds until another try makes sense.",
}


def make_document(routes: Sequence[Route[Any]]) -> Json:
    """Return the document for these routes, as what JSON can hold."""
    schemas, components = _collect_schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    components["Error"] = _error_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zpmeow",
            "version": __version__,
            "description": "Sessions of WhatsApp gateways. `{sessionId}` is a session's id or its name.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "Bearer": {"type": "http", "scheme": "bearer"},
            },
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
        },
    }


def _collect_schemas(routes: Iterable[Route[Any]]) -> tuple[dict[Any, Json], Json]:
    """Return the schema of each model and shape, and the definitions that they refer to."""
    inputs = {route.body for route in routes if route.body is not None}
    shapes = {shape for route in routes for shape in (route.data, route.unavailable_data) if shape is not None}
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        *((model, "validation", TypeAdapter(model)) for model in sorted(inputs, key=_name)),
        *((shape, "serialization", TypeAdapter(shape)) for shape in sorted(shapes, key=_name)),
    ]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    return {key: schema for (key, _), schema in found.items()}, dict(definitions.get("$defs", {}))


def _operation(route: Route[Any], schemas: Mapping[Any, Json]) -> Json:
    operation: Json = {
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
        "security": [{"ApiKey": []}, {"Bearer": []}] if route.access or route.needs_own_key else [],
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_may_be_missing,
            "content": {JSON: {"schema": schemas[route.body]}},
        }
    return operation


def _parameters(route: Route[Any]) -> list[Json]:
    parameters: list[Json] = []
    if route.names_session:
        parameters.append(
            _path_parameter("sessionId", "A session's id or its name.", {"type": "string", "minLength": 1})
        )
    if "{id}" in route.path:
        parameters.append(_path_parameter("id", "The command's id.", {"type": "string", "format": "uuid"}))
    if route.query is not None and issubclass(route.query, BaseModel):
        described = route.query.model_json_schema()
        definitions = described.get("$defs", {})
        for name, schema in described["properties"].items():
            parameters.append({"name": name, "in": "query", "schema": _for_query(schema, definitions)})
    if route.revalidates:
        parameters.append({"name": "If-None-Match", "in": "header", "schema": {"type": "string"}})
    return parameters


def _path_parameter(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _for_query(schema: Json, definitions: Mapping[str, Json]) -> Json:
    """Return the schema of a query parameter: without null, which a query cannot hold, and without references."""
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice != {"type": "null"}]
    only = dict(choices[0])
    reference = only.pop("$ref", None)
    if reference is not None:
        only.update(definitions[reference.rpartition("/")[2]])
    return only


def _responses(route: Route[Any], schemas: Mapping[Any, Json]) -> Json:
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    content: Json = {JSON: {"schema": _success_schema(route.status, schemas[route.data])}}
    content.update({media_type: {"schema": {"type": "string"}} for media_type in route.media_types})
    answered_headers = dict(headers)
    if route.entities:
        answered_headers["Cache-Status"] = {"$ref": "#/components/headers/Cache-Status"}
    if route.revalidates:
        answered_headers["ETag"] = {"$ref": "#/components/headers/ETag"}
    responses: Json = {
        str(route.status): {"description": route.summary, "headers": answered_headers, "content": content}
    }
    if route.revalidates:
        responses["304"] = {"description": "What the caller keeps still holds", "headers": answered_headers}
    for status, refusals in sorted(_refusals_of(route).items()):
        responses[str(status)] = _refusal_response(route, status, refusals, schemas, headers)
    return responses


def _refusals_of(route: Route[Any]) -> dict[int, list[Refusal]]:
    kinds: list[type[Exception]] = [*_OF_ALL, *route.errors, *_UNAVAILABLE]
    if route.access is not None or route.needs_own_key:
        kinds.append(Unauthorized)
    if route.body is not None:
        kinds.extend(_OF_BODIES)
    elif route.query is not None:
        kinds.append(InvalidInput)
    by_status: dict[int, list[Refusal]] = {INTERNAL_ERROR.status: [INTERNAL_ERROR]}
    for kind in kinds:
        by_status.setdefault(REFUSALS[kind].status, []).append(REFUSALS[kind])
    return by_status


def _refusal_response(
    route: Route[Any], status: int, refusals: Sequence[Refusal], schemas: Mapping[Any, Json], headers: Json
) -> Json:
    schema: Json = {"$ref": _REFERENCE.format(model="Error")}
    if status == REFUSALS[DatabaseUnavailable].status:
        headers = {**headers, "Retry-After": {"$ref": "#/components/headers/Retry-After"}}
        if route.unavailable_data is not None:
            schema = _error_schema(data=schemas[route.unavailable_data])
    return {
        "description": "; ".join(f"`{refusal.code}`: {refusal.message}" for refusal in refusals),
        "headers": headers,
        "content": {JSON: {"schema": schema}},
    }


def _success_schema(status: int, data: Json) -> Json:
    return {
        "type": "object",
        "required": ["success", "code", "data"],
        "additionalProperties": False,
        "properties": {"success": {"const": True}, "code": {"const": status}, "data": data},
    }


def _error_schema(data: Json | None = None) -> Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["success", "code", "data", "error"],
        "additionalProperties": False,
        "properties": {
            "success": {"const": False},
            "code": {"type": "integer"},
            "data": {"type": "null"} if data is None else {"anyOf": [data, {"type": "null"}]},
            "error": {
                "type": "object",
                "required": ["code", "message", "details"],
                "additionalProperties": False,
                "properties": {"code": text, "message": text, "details": text},
            },
        },
    }


def _name(kind: type) -> str:
    return kind.__name__
