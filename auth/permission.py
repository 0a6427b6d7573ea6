"""What may be granted: one name for each thing that a route lets people do."""

from __future__ import annotations

from enum import Enum, StrEnum


class Permission(StrEnum):
    """As bindings of roles and tokens write it."""

    ENVIRONMENT_READ = "environment::read"
    """Pull what is in a repository, or files beside it; see it in lists."""
    ENVIRONMENT_CREATE = "environment::create"
    """Push to a repository, or have an image or a file built that is not there yet."""
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


class Public(Enum):
    """What a route says that needs no permission: to say so is never forgetting it."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC
