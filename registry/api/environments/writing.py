"""Environments, specifications and builds as JSON, in conda-store's shapes with fields of ours beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from storage.environments.on_disk import BuildOnDisk, add_problem
from storage.environments.vocabulary import BuildStatus, Environment, EnvironmentBuild, Specification

FILES_OF_TYPES = {
    "LOCKFILE": "conda-lock.yml",
    "YAML": "yaml",
    "CONDA_PACK": "archive",
    "DOCKER_MANIFEST": "docker",
}
"""What a complete build has, and where: the last part of its path. The order is part of the ids."""
LOGS = "LOGS"
DIRECTORY = "DIRECTORY"
_TYPES = (LOGS, *FILES_OF_TYPES, DIRECTORY)


def write_time(seconds: float) -> str:
    """UTC without a zone: conda-store's interface appends one."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def write_time_or_null(seconds: float | None) -> str | None:
    return None if seconds is None else write_time(seconds)


def write_environment(environment: Environment) -> dict[str, Any]:
    return {
        "id": environment.id,
        "namespace": {"id": environment.namespace_id, "name": environment.namespace},
        "name": environment.name,
        "current_build_id": environment.current_build,
        "description": environment.description,
        "repository": environment.repository,
        "last_build_id": environment.last_build,
        "created_on": write_time(environment.created),
        "created_by": environment.created_by,
        "solved_on": write_time_or_null(environment.resolved),
        "solve_error": environment.resolve_error,
    }


def write_build(build: EnvironmentBuild) -> dict[str, Any]:
    return {
        "id": build.id,
        "environment_id": build.environment,
        "status": build.status,
        "status_info": build.status_info,
        "size": build.size,
        "scheduled_on": write_time(build.scheduled),
        "started_on": write_time_or_null(build.started),
        "ended_on": write_time_or_null(build.ended),
        "cause": build.cause,
        "created_by": build.created_by,
        "pulled_on": write_time_or_null(build.pulled),
        "lock": build.lock_key if build.status == BuildStatus.COMPLETED else None,
        "same_as": build.same_as,
    }


def write_whole_build(
    build: EnvironmentBuild, specification: Specification, on_disk: BuildOnDisk | None = None
) -> dict[str, Any]:
    """With what a server's disk has of it, or the reason why it has nothing."""
    return {
        **write_build(build),
        "status_info": add_problem(build.status_info, on_disk),
        "specification": write_specification(specification),
        "packages": None,
        "build_artifacts": write_artifacts(build, on_disk),
    }


def write_specification(specification: Specification) -> dict[str, Any]:
    return {
        "id": specification.id,
        "name": specification.name,
        "spec": specification.document,
        "sha256": specification.sha256,
        "created_on": write_time(specification.created),
    }


def write_artifacts(build: EnvironmentBuild, on_disk: BuildOnDisk | None = None) -> list[dict[str, Any]]:
    """The log, and of a complete build all that is made of its lock and its image, at the latest when asked for."""
    place = f"/api/v1/build/{build.id}"
    files = {LOGS: "logs", **(FILES_OF_TYPES if build.status == BuildStatus.COMPLETED else {})}
    keys = {kind: f"{place}/{file}/" for kind, file in files.items()}
    if on_disk is not None and on_disk.path is not None:
        keys[DIRECTORY] = on_disk.path
    return [
        {"id": build.id * len(_TYPES) + _TYPES.index(kind), "artifact_type": kind, "key": key}
        for kind, key in keys.items()
    ]
