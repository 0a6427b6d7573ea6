"""The shapes that the REST API reads and answers, one class each, as the rows of the route table name them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from auth.accounts.names import MOST_CHARACTERS, NAME
from auth.permission import Permission
from registry.contract import Paged, Shape

Name = Annotated[str, Field(max_length=MOST_CHARACTERS, pattern=f"^{NAME.pattern}$")]
Moment = datetime | Annotated[float, Field(ge=0)]
"""ISO 8601, of which one without a time zone is UTC, or seconds since 1970."""


class Permissions(Shape):
    """Who the sender is, and may do what."""

    authenticated: bool
    primary_namespace: str
    """Where what is made without the name of a namespace goes."""
    entity_permissions: dict[str, list[Permission]]
    """By pattern, which has exactly one slash."""
    entity_roles: dict[str, list[str]]
    """The built-in roles that are granted whole, by pattern."""
    expiration: datetime | None
    """When what the sender has shown ends."""


class ListedNamespace(Shape):
    id: int
    name: Name


class Namespaces(Paged):
    sort_by: Literal["id", "name"] | None = None


class Token(Shape):
    id: str
    name: str
    owner: str
    bindings: list[str] | None
    """What it is limited to; null for all that its owner may do."""
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    used: datetime | None
    used_from: str | None


class MadeToken(Token):
    token: str
    """The token itself, which is answered once."""


class CondaStoreToken(Shape):
    """What conda-store's clients get."""

    token: str


class NewToken(Shape):
    name: str
    """What it is for, such as a machine's name."""
    bindings: list[str] | None = None
    """What it is limited to, such as `team/*=viewer`; without it, all that its owner may do."""
    expires: Moment | None = None


class NewCondaStoreToken(Shape):
    """As conda-store's clients ask for one."""

    primary_namespace: Name | None = None
    expiration: Moment | None = None
    exp: Moment | None = None
    role_bindings: dict[str, list[str]] | None = None
    """Roles by entity; empty for all that its owner may do."""


TokenSort = Literal["name", "created", "expires", "used"]


class Tokens(Paged):
    sort_by: TokenSort | None = None


class Event(Shape):
    """Something that was done, or refused."""

    id: int
    time: datetime
    principal: str
    principal_kind: str
    token: str
    client: str
    """An address."""
    action: str
    """A noun and a verb, such as manifest.push."""
    entity: str
    outcome: Literal["allowed", "denied"]
    request: str
    detail: dict[str, JsonValue]


Printable = Annotated[str, Field(pattern=r"^[ -~]*$")]


class Events(Shape):
    principal: Printable | None = None
    action: Printable | None = None
    entity: Printable | None = None
    """One that ends in `*` stands for all that begin so."""
    outcome: Literal["allowed", "denied"] | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: Annotated[int, Field(ge=1, lt=10**18)] | None = None
    """Events on a page: 100 if nothing is said, and never more than 1000."""
    before: Annotated[int, Field(ge=1, lt=10**18)] | None = None
    """Older events than that of this number."""


class Version(Shape):
    version: str


class Used(Shape):
    """What a namespace has. `storage` is bytes of packages, of each lock once."""

    num_environments: int
    num_builds: int
    storage: int


class RoleMapping(Shape):
    id: str
    entity: str
    """A pattern, such as `team/*`."""
    role: str


class Namespace(ListedNamespace):
    metadata_: dict[str, JsonValue]
    role_mappings: list[RoleMapping]
    """What is bound to it, for all who may act for it."""


class ChangedNamespace(Shape):
    metadata: dict[str, JsonValue] | None = None
    role_mappings: dict[str, list[str]] | None = None
    """Roles by entity, in place of all that are bound to it."""


class NamespaceRole(Shape):
    id: str
    namespace: Name
    other_namespace: str
    """Where it has the role."""
    role: str
    entity: str
    """The pattern on which it has the role: `<other_namespace>/*`, unless it is narrower."""


class OtherNamespace(Shape):
    other_namespace: Name


class NewNamespaceRole(Shape):
    other_namespace: Name
    role: Annotated[str, Field(min_length=1)]


class Channel(Shape):
    """A channel whose packages can be searched."""

    id: int
    name: str
    """As it is written in a spec: a name or an address."""
    last_update: datetime | None
    """When its list of packages was last read; null before its first search."""


class Channels(Paged):
    sort_by: Literal["id", "name", "last_update"] | None = None


class Package(Shape):
    """A package of a channel. conda-store's has the fields from `id` to `summary`."""

    id: int
    channel: Channel
    license: str | None
    name: str
    version: str
    summary: str
    """What the channel says of it; empty if it says nothing."""
    build: str
    build_number: int
    subdir: str
    size: int | None
    """Bytes of its archive."""
    timestamp: int | None
    """When it was built: milliseconds since 1970."""
    sha256: str | None
    md5: str | None
    depends: int
    """How many dependencies it has."""


PackageColumn = Literal["channel", "name", "version"]
Searched = Annotated[str, Field(max_length=200, pattern=r"^[ -~]*$")]


class Packages(Paged):
    search: Searched | None = None
    """A part of the name, whatever its case."""
    exact: Literal["true", "false"] | None = None
    """Whether `search` is the whole name."""
    build: Searched | None = None
    """A part of the build."""
    channel: Annotated[list[Searched], Field(max_length=20)] | None = None
    """Names or addresses of channels; without them, all are searched."""
    distinct_on: Annotated[list[PackageColumn], Field(max_length=20)] | None = None
    """Of packages that are alike in these, the newest is shown."""
    sort_by: PackageColumn | None = None
    """Versions sort as conda sorts them."""
