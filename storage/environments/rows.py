"""Reading rows of environments, builds and specifications."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, select

from storage.database.account_tables import namespace
from storage.database.environment_tables import environment, environment_build, specification
from storage.environments.vocabulary import BuildStatus, Cause, Environment, EnvironmentBuild, Specification

_OF_ENVIRONMENT = tuple(each for each in environment.c if each.name != "deleted")
_OF_BUILD = tuple(each for each in environment_build.c if each.name not in ("deleted", "lock_number"))


def select_environments(*, deleted: bool = False) -> Select[Any]:
    """A query of all environments that are not deleted, or also of those that are."""
    query = select(*_OF_ENVIRONMENT, namespace.c.id.label("namespace_id"))
    query = query.join(namespace, namespace.c.name == environment.c.namespace)
    return query if deleted else query.where(environment.c.deleted.is_(None))


def read_environment(row: Any) -> Environment:
    return Environment(**row._mapping)


def select_builds(*, deleted: bool = False) -> Select[Any]:
    """A query of all builds that are not deleted, or also of those that are."""
    query = select(
        *_OF_BUILD,
        environment.c.namespace,
        environment.c.name,
        environment.c.repository,
        (environment.c.current_build == environment_build.c.id).label("is_current"),
    ).join(environment, environment.c.id == environment_build.c.environment)
    return query if deleted else query.where(environment_build.c.deleted.is_(None))


def read_build(row: Any) -> EnvironmentBuild:
    return make_build(row._mapping)


def make_build(columns: Mapping[str, Any]) -> EnvironmentBuild:
    """A build of the columns that `select_builds` has."""
    values = dict(columns)
    status, cause = BuildStatus(values.pop("status")), Cause(values.pop("cause"))
    is_current = bool(values.pop("is_current"))
    return EnvironmentBuild(status=status, cause=cause, is_current=is_current, **values)


def read_specification(row: Any) -> Specification:
    return Specification(row.id, row.name, row.sha256, json.loads(row.document), json.loads(row.request), row.created)


SPECIFICATION_COLUMNS = tuple(each for each in specification.c if each.name != "environment")
