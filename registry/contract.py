"""What a route of the REST API reads and answers, from which its published description (OpenAPI) is written.

A row of the route table has it beside its permission: `query` and `body` are shapes, `gives` says what comes back.

    class Namespace(Shape):
        id: int
        name: str

    AccountRoute(("PUT",), ..., body=NewNamespace, gives=data(Namespace))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain"
YAML = "application/yaml"
HTML = "text/html"
BYTES = "application/octet-stream"


class Shape(BaseModel):
    """A JSON object, or the fields of a query. It has no other fields; those with a default may be missing.

    The docstring of a field is its description.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, defer_build=True)


Empty = Literal[""]
"""conda-store's clients send a parameter with nothing in it where they mean none."""


class Paged(Shape):
    """The query of a list. The rows of a table that can be sorted add a `sort_by` of their own."""

    page: Annotated[int, Field(ge=1, le=999_999_999)] | Empty | None = None
    """Which page, from 1. Without `page` and `size` the answer has all rows."""
    size: Annotated[int, Field(ge=1, le=999_999_999)] | Empty | None = None
    """Rows on a page; more than 100 are never given."""
    order: Literal["asc", "desc", ""] | None = None


@dataclass(frozen=True)
class Gives:
    """What a route answers when it does what it is asked for. All routes answer errors in one form."""

    fields: Mapping[str, object] | None = None
    """Of a JSON object, beside `status`, with the type of each; None if the answer is no such object."""
    optional: frozenset[str] = frozenset()
    """Those of `fields` that may be missing."""
    media_types: tuple[str, ...] = ()
    """Of what is answered that is no such object."""

    def __or__(self, other: Gives) -> Gives:
        """Either, as what is asked for and the request's `Accept` have it."""
        assert self.fields is None or other.fields is None, "JSON has one shape"
        fields = self.fields if other.fields is None else other.fields
        return Gives(fields, self.optional | other.optional, self.media_types + other.media_types)


def fields(**types: object) -> Gives:
    """`{"status": "ok", ...}` with these fields."""
    return Gives(types)


def data(of: object, **optional: object) -> Gives:
    """`{"status": "ok", "data": ...}`; `optional` fields may stand beside the data."""
    return Gives({"data": of, **optional}, frozenset(optional))


def listing(of: object, **optional: object) -> Gives:
    """A list, all of it or a page; `optional` fields may stand beside it."""
    # a type that is a value can stand in an annotation only by force
    listed: object = list.__class_getitem__(of)
    return Gives({"data": listed, "page": int, "size": int, "count": int, **optional}, frozenset(optional))


def message() -> Gives:
    return fields(message=str)


def raw(*media_types: str) -> Gives:
    """Content that is no JSON object of ours."""
    return Gives(media_types=media_types)
