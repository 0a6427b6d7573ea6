"""Environments that build on others: all packages of the other one, as they are locked there."""

from __future__ import annotations

from dataclasses import replace

from builder.environments.repository import write_repository
from builder.environments.request import BuildRequest
from builder.errors import EnvironmentUnusable
from builder.locks.aside import read_lock
from builder.locks.lock import Lock, LockedPackage
from builder.names.requirement import merge_requirements
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem, merge_items
from storage.catalog.locks import Locks
from storage.environments.parts import EnvironmentStore
from storage.errors import EnvironmentUnknown


def check_extends(extends: str | None, repository: str) -> None:
    """Raises EnvironmentUnusable for an environment, whose images are in `repository`, that extends itself."""
    if extends is not None and write_repository(*extends.split("/", 1)) == repository:
        raise EnvironmentUnusable(f"extends: {extends} is this environment itself; name another one")


async def find_extended(request: BuildRequest, store: EnvironmentStore, locks: Locks) -> EnvironmentSpec:
    """What is to be solved: the request's own spec, with the packages of the environment that it extends.

    Raises EnvironmentUnusable.
    """
    if request.extends is None:
        return request.spec
    namespace, _, name = request.extends.partition("/")
    try:
        found = await store.environments.find(namespace, name)
    except EnvironmentUnknown:
        # it is told with the build, to whoever reads that; so no names of environments that are like it
        raise EnvironmentUnusable(f"extends: {EnvironmentUnknown(namespace, name)}") from None
    base = await store.builds.find(found.current_build) if found.current_build is not None else None
    document = await locks.find(base.lock_key) if base and base.lock_key else None
    if document is None:
        raise EnvironmentUnusable(f"extends: {request.extends} has no complete build yet; build it first")
    return pin_all(request.spec, await read_lock(document), request.extends)


def pin_all(spec: EnvironmentSpec, base: Lock, name: str) -> EnvironmentSpec:
    """The spec, which also wants exactly the packages of another lock. Raises EnvironmentUnusable."""
    if missing := sorted(set(spec.platforms) - base.packages.keys()):
        raise EnvironmentUnusable(f"extends: {name} is not built for {', '.join(missing)}")
    packages = {package for platform in spec.platforms for package in base.packages[platform]}
    pinned = {_pin(package) for package in packages if not package.is_wheel}
    wheels = [f"{package.title}=={package.version}" for package in packages if package.is_wheel]
    if len(spec.platforms) > 1 and len({each.name for each in pinned}) < len(pinned):
        raise EnvironmentUnusable(
            f"extends: {name} has other versions for each platform; name one platform in each environment file"
        )
    channels = tuple(dict.fromkeys([*spec.channels, *base.spec.channels]))
    return replace(
        spec,
        items=merge_items([*spec.items, *pinned]),
        channels=channels,
        requirements=merge_requirements([*spec.requirements, *wheels]),
        indexes=tuple(dict.fromkeys([*spec.indexes, *base.spec.indexes])),
    )


def _pin(package: LockedPackage) -> PackageItem:
    return PackageItem(package.name, None, (Constraint("==", package.version),), package.build)
