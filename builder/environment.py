"""The last layer of an image, from what inspection and transcoding have left in the data directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.archive import Limits, payload
from builder.contents import PackageContents, inspect
from builder.environment_layer import (
    ENTRYPOINT,
    SHELLS,
    VARIABLES_DIRECTORY,
    InstalledPackage,
    find_shell,
    make_layer,
    members,
    package_variables,
)
from builder.errors import PackageRefused
from builder.file_part import FilePart
from builder.fragment import read_paths
from builder.image import EnvironmentFacts, ImageLayer
from builder.layer import FRAGMENTS, FragmentTask
from builder.lock import Lock
from builder.lock_formats import newest
from storage.errors import FragmentsGone
from storage.files import known_errors
from storage.joins import fragment_path

_PASSED = 1 << 20
"""Bytes that are passed from process to process; what is larger, as a file."""

_LARGEST_VARIABLES = 1 << 20
"""Bytes of a file of variables. The kernel takes none of more than an eighth of it."""


@dataclass(frozen=True)
class EnvironmentTask:
    """One platform's environment; every fragment of it has been made. Picklable, for the pool."""

    root: Path
    lock: Lock
    platform: str
    base_has_shell: bool
    user: int | None
    limits: Limits
    fragments: tuple[FragmentTask, ...]
    shells: frozenset[str]
    """Those of SHELLS that packages bring."""
    variables: tuple[FragmentTask, ...]
    """Those of the fragments whose packages bring files of variables."""
    working: Path
    """The folder where a large layer is put."""


@dataclass(frozen=True)
class FinishedEnvironment:
    """The environment layer with its bytes, and what the image's config says because of it."""

    content: bytes | FilePart
    layer: ImageLayer
    facts: EnvironmentFacts

    def pieces(self) -> Iterable[bytes]:
        """The layer's bytes."""
        return [self.content] if isinstance(self.content, bytes) else self.content.pieces()


def finish_environment(task: EnvironmentTask) -> FinishedEnvironment:
    """Make the environment layer; whoever calls stores it. Raises PackageRefused, FragmentsGone."""
    installed = [InstalledPackage(fragment.package, _paths(task, fragment)) for fragment in task.fragments]
    variables = [file for fragment in task.variables for file in _variable_files(fragment, task)]
    prefix = task.lock.spec.prefix
    shell = find_shell(prefix, task.shells, task.base_has_shell)
    try:
        layer = make_layer(
            members(task.lock, task.platform, installed, shell=shell, user=task.user),
            newest(task.lock.packages[task.platform]) // 1000,
        )
    except FileNotFoundError:
        raise FragmentsGone([fragment.recipe.key for fragment in task.fragments]) from None
    facts = EnvironmentFacts(
        entrypoint=f"{prefix}/{ENTRYPOINT}" if shell else None,
        shell=shell,
        variables=package_variables(variables),
        user=task.user,
    )
    return FinishedEnvironment(
        _small_or_file(layer.content, task.working / f"{task.platform}.tar.gz"), layer.layer, facts
    )


def _small_or_file(content: bytes, path: Path) -> bytes | FilePart:
    if len(content) <= _PASSED:
        return content
    with known_errors(path.parent):
        path.write_bytes(content)
    return FilePart.of(path)


def shells_in(contents: Iterable[PackageContents]) -> frozenset[str]:
    """Those of SHELLS that packages bring."""
    return frozenset().union(*(frozenset(SHELLS).intersection(each.targets) for each in contents))


def has_variables(contents: PackageContents) -> bool:
    """Whether a package brings files whose variables go into the image's Env."""
    return VARIABLES_DIRECTORY.rstrip("/") in contents.directories


def _paths(task: EnvironmentTask, fragment: FragmentTask) -> FilePart:
    try:
        return read_paths(fragment_path(task.root / FRAGMENTS, fragment.recipe.key))
    except FileNotFoundError:
        raise FragmentsGone([fragment.recipe.key]) from None


def _is_variable_file(target: str) -> bool:
    return target.startswith(VARIABLES_DIRECTORY) and target.endswith(".json")


def _variable_files(fragment: FragmentTask, task: EnvironmentTask) -> Iterator[tuple[str, str, bytes]]:
    """(package, path, content) of the files whose variables go into the image's Env (conda `activate.py`)."""
    archive = fragment.archive
    contents = inspect(archive, fragment.package, fragment.recipe.python, task.root / "contents", task.limits)
    wanted = {
        source: target
        for source, target in zip(contents.sources, contents.targets, strict=True)
        if _is_variable_file(target)
    }
    with payload(archive, contents.package, task.limits) as tar:
        for member in tar:
            if member.name in wanted:
                if member.size > _LARGEST_VARIABLES:
                    raise PackageRefused(
                        contents.package, f"its {member.name} has {member.size} bytes of variables, too many to be read"
                    )
                yield contents.package, wanted[member.name], b"".join(map(bytes, tar.chunks()))
