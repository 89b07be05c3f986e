"""The OpenAPI document of the control API, from the table of operations (https://spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, cast

from veriff_async.sandbox._control.access import API_PREFIX
from veriff_async.sandbox._control.errors import CODES
from veriff_async.sandbox._control.fields import Members, Text
from veriff_async.sandbox._control.operation import EVENTS, FILE
from veriff_async.sandbox._control.operations import OPERATIONS
from veriff_async.sandbox._control.shapes import schema_of
from veriff_async.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._control.operation import Operation

__all__ = ("OPENAPI_PATH", "build_document")

OPENAPI_PATH: Final = "/openapi.json"

_DESCRIPTION: Final = (
    "Controls a sandbox of veriff-async: a local Veriff for tests and development. It is not an API of Veriff."
)
_ERROR: Final = {
    "type": "object",
    "title": "Error",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "enum": [*CODES.values(), "refused"]},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
            },
            "required": ["code", "message", "field"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_SECURITY: Final[list[dict[str, tuple[str, ...]]]] = [{}, {"token": ()}]
_REASONS: Final = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    403: "A page of another origin, or an unknown name of the host.",
    404: "The record does not exist.",
    409: "The present state does not allow this.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    422: "A field is wrong; the error names it.",
    501: "The extra [sandbox] is not installed.",
    503: "The sandbox is stopping.",
}


@cache
def build_document() -> JsonObject:
    """Return the document."""
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "veriff-async sandbox", "version": __version__, "description": _DESCRIPTION},
        # Relative to the document's own address, so that the URL of a proxy or a container's port stays right.
        "servers": [{"url": API_PREFIX}],
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Not needed on loopback addresses."}
            },
        },
        "security": _SECURITY,
    }


def _operation(operation: Operation) -> JsonObject:
    described: dict[str, object] = {
        "operationId": operation.name,
        "summary": operation.text,
        "parameters": list(_parameters(operation)),
        "responses": {"200": {"description": "Success.", "content": _content(operation)}, **dict(_errors(operation))},
    }
    if operation.upload is not None:
        described["requestBody"] = {"required": True, "content": {operation.upload: {"schema": {}}}}
    elif operation.takes_body and operation.body:
        schema = Members(fields=operation.body).schema()
        described["requestBody"] = {
            "required": any(field.is_required for field in operation.body),
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _parameters(operation: Operation) -> Iterator[JsonObject]:
    typed = {field.name: field.kind.schema() for field in operation.ids}
    for part in operation.segments:
        if part.startswith("{"):
            name = part[1:-1]
            schema = typed.get(name, Text(min_length=1).schema())
            yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.result == EVENTS:
        text = "The id of the last event that the client knows; it has priority over the query."
        yield {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}, "description": text}
    for field in operation.query:
        yield {
            "name": field.name,
            "in": "query",
            "required": field.is_required,
            "schema": field.kind.schema(),
            "description": field.text,
        }


def _content(operation: Operation) -> JsonObject:
    if operation.result == FILE:
        return {"*/*": {"schema": {}}}
    if operation.result == EVENTS:
        return {"text/event-stream": {"schema": {"type": "string"}}}
    return {"application/json": {"schema": result_schema(operation)}}


def result_schema(operation: Operation) -> JsonObject:
    """Return the JSON Schema of the result of an operation."""
    result: object = operation.result
    if not isinstance(result, dict):
        return schema_of(result)
    members = cast("dict[str, object]", result)
    return {
        "type": "object",
        "properties": {name: schema_of(kind) for name, kind in members.items()},
        "required": list(members),
        "additionalProperties": False,
    }


def _errors(operation: Operation) -> Iterator[tuple[str, JsonObject]]:
    statuses = [401, 403, 422, 503]
    if "{" in operation.path:
        statuses.append(404)
    if operation.is_change:
        statuses.append(409)
    if operation.result == EVENTS:
        statuses.append(501)
    if operation.takes_body:
        statuses += [400, 413, 415]
    for status in sorted(statuses):
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        yield str(status), {"description": _REASONS[status], "content": content}
