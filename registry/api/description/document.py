"""The description of the REST API in OpenAPI 3.1, written from the rows of the route table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from auth.accounts.names import MOST_CHARACTERS, NAME
from auth.permission import PUBLIC, Permission
from builder.environments.inputs.environment_file import LONGEST_NAME
from builder.environments.inputs.environment_file import NAME as ENVIRONMENT_NAME
from registry.answers import ANSWERS, CODES_OF_STATUS, Form
from registry.contract import HTML, JSON, TEXT, Gives, Shape
from registry.dispatch import AccountRoute, EntityRoute, RepositoryRoute, Route, Row
from storage.environments.vocabulary import LARGEST_ID

BEGINNING = "/api/"
"""Of the paths that are described; the others have specifications of their own."""

_FIELD = re.compile(r"\{([a-z_]+)\}")
_REFERENCE = "#/components/schemas/{model}"

PATH_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "namespace": {"type": "string", "maxLength": MOST_CHARACTERS, "pattern": f"^{NAME.pattern}$"},
    "environment": {"type": "string", "maxLength": LONGEST_NAME, "pattern": f"^{ENVIRONMENT_NAME.pattern}$"},
    "build": {"type": "integer", "minimum": 1, "maximum": LARGEST_ID, "description": "Its id."},
    "token": {
        "type": "string",
        "pattern": "^([0-9a-f]{32}|current)$",
        "description": "Its id; `current` is the one with which the request was sent.",
    },
}
"""The schema of each field of a path."""

_TITLE = "condery"
_ABOUT = (
    "Namespaces, environments, builds and what is made of them. An answer is a JSON object whose `status` is `ok` or "
    "`error`. Every path may be written with and without its last slash, and wherever there is GET, there is HEAD. "
    "`x-permission` says what has to be granted, and `x-entity` on what; `public` is open to everybody, and "
    "`signed in` to everybody who is somebody. Who may not see a thing gets 404 for it, as if it was not there."
)

_ERROR = {
    "type": "object",
    "properties": {
        "status": {"const": "error"},
        "code": {"enum": sorted({answer.code for answer in ANSWERS.values()} | set(CODES_OF_STATUS.values()))},
        "message": {"type": "string", "description": "What is wrong, where, and what to do."},
    },
    "required": ["status", "code", "message"],
    "additionalProperties": False,
}

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or the token of a CI job."},
    "basic": {"type": "http", "scheme": "basic", "description": "A name and a password, or a token in its place."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-condery-session",
        "description": "Of a browser that is signed in at /login; over http it is condery-session.",
    },
}


Described = Route | AccountRoute | EntityRoute[Any]


class UndescribedRoute(ValueError):
    """A row of the table does not say what it reads or answers."""


def write_description(rows: Iterable[Row]) -> dict[str, Any]:
    """Raises UndescribedRoute."""
    described = [row for row in rows if row.path.startswith(BEGINNING) and not isinstance(row, RepositoryRoute)]
    types = _Types(described)
    paths: dict[str, dict[str, Any]] = {}
    for row in described:
        operations = paths.setdefault(row.path, {})
        for method in row.methods:
            if method != "HEAD":
                operations[method.lower()] = _write_operation(row, method, types)
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**types.definitions, "Error": _ERROR},
            "responses": {
                "Error": _write_failure(JSON, {"$ref": _REFERENCE.format(model="Error")}),
                "ErrorPage": _write_failure(HTML, {"type": "string"}),
            },
            "securitySchemes": _SCHEMES,
        },
    }


def name_operation(row: Described, method: str) -> str:
    """A name that no other has, for programs that make functions of operations."""
    words = [part for part in row.path.removeprefix(BEGINNING).removeprefix("v1/").split("/") if part]
    return "_".join([method.lower(), *(re.sub(r"[^a-z0-9]+", "_", word).strip("_") for word in words)]) or method


def path_fields(row: Described) -> list[str]:
    return _FIELD.findall(row.path)


class _Types:
    """The JSON schemas of all types that rows name; what they share is defined once."""

    def __init__(self, rows: Sequence[Described]) -> None:
        adapters: list[tuple[int, JsonSchemaMode, TypeAdapter[Any]]] = []
        keys: dict[tuple[int, JsonSchemaMode], object] = {}
        for of, mode in (use for row in rows for use in _uses(row)):
            if (id(of), mode) not in keys:
                keys[id(of), mode] = of
                adapter: TypeAdapter[Any] = TypeAdapter(of)  # type: ignore[arg-type] # a row has a type as a value
                adapters.append((id(of), mode, adapter))
        # the types are kept, so that no other gets the id of one
        self._kept = keys
        schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
        self._schemas = schemas
        self.definitions: dict[str, Any] = shared.get("$defs", {})

    def schema(self, of: object, mode: JsonSchemaMode) -> dict[str, Any]:
        found: dict[str, Any] = self._schemas[id(of), mode]
        return found

    def query(self, shape: type[Shape]) -> Iterator[dict[str, Any]]:
        """The parameters of a query, one for each field."""
        schema = self.schema(shape, "validation")
        if "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        for name, each in schema.get("properties", {}).items():
            yield _write_parameter(name, each, required=name in schema.get("required", ()))


def _uses(row: Described) -> Iterator[tuple[object, JsonSchemaMode]]:
    if row.query is not None:
        yield row.query, "validation"
    if isinstance(row, AccountRoute | EntityRoute) and row.body is not None:
        yield row.body, "validation"
    if row.gives is None:
        raise UndescribedRoute(f"{row.path} does not say what it answers; see registry.contract")
    yield from ((each, "serialization") for each in (row.gives.fields or {}).values())


def _write_operation(row: Described, method: str, types: _Types) -> dict[str, Any]:
    assert row.gives is not None, "its types were collected"
    parameters = [_write_field(row, name) for name in path_fields(row)]
    if row.query is not None:
        parameters += types.query(row.query)
    written: dict[str, Any] = {
        "operationId": name_operation(row, method),
        "summary": row.summary[0].upper() + row.summary[1:],
        "tags": [row.path.removeprefix(BEGINNING).removeprefix("v1/").split("/")[0].partition(".")[0] or "version"],
        "x-permission": row.permission.value if row.permission is not None else None,
    }
    if isinstance(row, AccountRoute | EntityRoute) and row.entity:
        written["x-entity"] = row.entity
    if parameters:
        written["parameters"] = parameters
    if isinstance(row, AccountRoute | EntityRoute) and row.body is not None:
        content = {JSON: {"schema": types.schema(row.body, "validation")}}
        written["requestBody"] = {"required": True, "content": content}
    return written | {"responses": _write_responses(row.gives, row.form, types), "security": _write_security(row)}


def _write_field(row: Described, name: str) -> dict[str, Any]:
    if name not in PATH_FIELDS:
        raise UndescribedRoute(f"{row.path}: {name} is not in PATH_FIELDS of {__name__}")
    return {**_write_parameter(name, PATH_FIELDS[name], required=True), "in": "path"}


def _write_parameter(name: str, schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    said = {key: value for key, value in schema.items() if key not in ("description", "title", "default")}
    # in a query there is no null; the field is left out
    if choices := [each for each in said.get("anyOf", ()) if each != {"type": "null"}]:
        said = {**said, "anyOf": choices}
        if len(choices) == 1:
            said = {**{key: value for key, value in said.items() if key != "anyOf"}, **choices[0]}
    written: dict[str, Any] = {"name": name, "in": "query", "required": required, "schema": said}
    if "description" in schema:
        written["description"] = schema["description"]
    return written


def _write_failure(media_type: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    # a request that cannot be read at all, such as one with too long an address, is refused before it has a form
    content = {media_type: {"schema": schema}, TEXT: {"schema": {"type": "string"}}}
    return {"description": "It was not done, and this says why.", "content": content}


def _write_responses(gives: Gives, form: Form, types: _Types) -> dict[str, Any]:
    content: dict[str, Any] = {each: {} for each in gives.media_types}
    if gives.fields is not None:
        properties = {name: types.schema(of, "serialization") for name, of in gives.fields.items()}
        content[JSON] = {
            "schema": {
                "type": "object",
                "properties": {"status": {"const": "ok"}, **properties},
                "required": ["status", *(name for name in gives.fields if name not in gives.optional)],
                "additionalProperties": False,
            }
        }
    done = {"description": "It was done.", "content": content}
    error = {"$ref": f"#/components/responses/{'ErrorPage' if form == 'page' else 'Error'}"}
    return {"200": done, "4XX": error, "5XX": error}


def _write_security(row: Described) -> list[dict[str, list[str]]]:
    """For what is public it is better to be somebody, too: the answer may depend on it. So does what is in a list."""
    needed = [row.permission.value] if isinstance(row.permission, Permission) else []
    is_open = row.permission is PUBLIC or (isinstance(row, Route) and row.lists)
    anybody: list[dict[str, list[str]]] = [{}] if is_open else []
    return anybody + [{scheme: needed} for scheme in _SCHEMES]
