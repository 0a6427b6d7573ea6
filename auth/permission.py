"""What may be granted: one name for each thing that a route lets people do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from storage.errors import quote
from storage.suggestions import find_near
from storage.text import redact


class Permission(StrEnum):
    """Spelled as in role bindings and tokens."""

    # asked for in every decision, and Enum's own is a function in Python
    __hash__ = str.__hash__

    ENVIRONMENT_READ = "environment::read"
    """Pull from a repository and get files beside its images; see it in lists."""
    ENVIRONMENT_CREATE = "environment::create"
    """Push to a repository, or build an image or file that does not exist yet."""
    ENVIRONMENT_UPDATE = "environment::update"
    ENVIRONMENT_SOLVE = "environment::solve"
    ENVIRONMENT_DELETE = "environment::delete"
    """Delete manifests, tags and blobs of a repository, or an environment."""
    BUILD_CANCEL = "build::cancel"
    BUILD_DELETE = "build::delete"
    NAMESPACE_READ = "namespace::read"
    NAMESPACE_CREATE = "namespace::create"
    NAMESPACE_UPDATE = "namespace::update"
    NAMESPACE_DELETE = "namespace::delete"
    NAMESPACE_ROLE_MAPPING_READ = "namespace-role-mapping::read"
    NAMESPACE_ROLE_MAPPING_CREATE = "namespace-role-mapping::create"
    NAMESPACE_ROLE_MAPPING_UPDATE = "namespace-role-mapping::update"
    NAMESPACE_ROLE_MAPPING_DELETE = "namespace-role-mapping::delete"
    SETTING_READ = "setting::read"
    SETTING_UPDATE = "setting::update"
    AUDIT_READ = "audit::read"
    """Read who did what, and who was refused."""


WORDS: Mapping[str, Permission] = {
    "pull": Permission.ENVIRONMENT_READ,
    "push": Permission.ENVIRONMENT_CREATE,
    "delete": Permission.ENVIRONMENT_DELETE,
}
"""What clients of registries call them."""


def parse_permission(text: str) -> Permission:
    """Read a permission by its name, or by what clients of registries call it. Raises ValueError."""
    if text in WORDS:
        return WORDS[text]
    try:
        return Permission(text)
    except ValueError:
        raise ValueError(f"{quote(redact(text))} is not a permission; {_suggest(text[:64].lower())}") from None


def _suggest(text: str) -> str:
    if meant := WORDS.get(text.rpartition("::")[2]):
        return f"did you mean {meant} ({text.rpartition('::')[2]})?"
    near = find_near(text, [*WORDS, *Permission]) or [
        each.value for each in Permission if text and text in each.value.split("::")
    ]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"a registry asks for {', '.join(f'{each.value} ({word})' for word, each in WORDS.items())}"


class Public(Enum):
    """What a route declares if it needs no permission, so that a missing permission is always a mistake."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC


class SignedIn(Enum):
    """What a route says that is about whoever asks: they have to be somebody, and need no permission for it."""

    SIGNED_IN = "signed in"


SIGNED_IN = SignedIn.SIGNED_IN
