"""Makes the environment layer in a worker, from what inspection and transcoding left in the data directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.archives.file_part import FilePart
from builder.image.activation import find_activation_problems
from builder.image.documents import ExecutionFacts, ImageLayer
from builder.image.environment_layer import (
    ACTIVATION,
    ENTRYPOINT,
    SHELLS,
    InstalledPackage,
    compress_layer,
    find_shell,
    list_members,
)
from builder.image.installed_files import InstalledFiles
from builder.image.variables import read_variables, write_state
from builder.layers.fragment import read_paths, read_starting_files
from builder.layers.layer import FragmentTask
from builder.locks.description import find_newest
from builder.locks.lock import Lock
from builder.packages.contents import PackageContents
from builder.packages.inspection import inspect
from builder.packages.starting_files import FOLDERS, LARGEST, SCRIPTS, VARIABLES, StartingFile, has_some, starts
from storage.disk.files import translate_errors
from storage.errors import FragmentsGone
from storage.layout import DataDirectory

_PASSED = 1 << 20
"""Bytes up to which a layer is passed between processes directly; a larger one is passed as a file."""


@dataclass(frozen=True)
class EnvironmentLayerTask:
    """Everything from which a platform's environment layer is made; all fragments exist. Picklable, for the pool."""

    data: DataDirectory
    lock: Lock
    platform: str
    base_shell: str | None
    """Absolute path of the base's shell, bash if the base has it."""
    user: int | None
    limits: ArchiveLimits
    fragments: tuple[FragmentTask, ...]
    shells: frozenset[str]
    """The SHELLS that packages install."""
    starting: tuple[FragmentTask, ...]
    """The fragments whose packages have variables or activation scripts."""
    working: Path
    """The folder for a large layer."""
    linked: bool = False
    """Whether a directory of such files is a link to another."""


@dataclass(frozen=True)
class FinishedLayer:
    """The environment layer with its bytes, and what the image's config says because of it."""

    content: bytes | FilePart
    layer: ImageLayer
    facts: ExecutionFacts
    skipped: tuple[str, ...] = ()
    """The packages' variables that were skipped, a sentence each."""
    warnings: tuple[str, ...] = ()
    """What whoever pulls the image should know, in short."""

    def pieces(self) -> Iterable[bytes]:
        """Return the layer's bytes."""
        return [self.content] if isinstance(self.content, bytes) else self.content.pieces()


def make_environment_layer(task: EnvironmentLayerTask) -> FinishedLayer:
    """Make the environment layer. The caller stores it. Raises PackageRefused, FragmentsGone."""
    installed = [
        InstalledPackage(fragment.package, _find_paths(task, fragment))
        for fragment in task.fragments
        # a wheel's own record is in its .dist-info
        if not fragment.package.is_wheel
    ]
    files = collect_starting_files(task)
    variables = read_variables(file for file in files if not file.path.startswith(SCRIPTS))
    scripts = [file for file in files if file.path.startswith(SCRIPTS)]
    spec = task.lock.spec
    prefix = spec.prefix
    state = write_state(spec, files) if spec.variables else None
    shell = find_shell(prefix, task.shells, task.base_shell)
    try:
        layer = compress_layer(
            list_members(task.lock, task.platform, installed, shell=shell, user=task.user, state=state),
            find_newest(task.lock.packages[task.platform]) // 1000,
        )
    except FileNotFoundError:
        raise FragmentsGone([fragment.recipe.key for fragment in task.fragments]) from None
    facts = ExecutionFacts(
        entrypoint=f"{prefix}/{ENTRYPOINT}" if shell else None,
        activation=f"{prefix}/{ACTIVATION}" if shell else None,
        shell=shell,
        variables=variables.values | dict(spec.variables),
        user=task.user,
    )
    warnings = [*variables.list_warnings(), *find_activation_problems(scripts, shell)]
    content = _pass_on(layer.content, task.working / f"{task.platform}.tar.gz")
    return FinishedLayer(content, layer.layer, facts, tuple(variables.skipped), tuple(warnings))


def _pass_on(content: bytes, path: Path) -> bytes | FilePart:
    if len(content) <= _PASSED:
        return content
    with translate_errors(path.parent):
        path.write_bytes(content)
    return FilePart.of(path)


def find_shells(contents: Iterable[PackageContents]) -> frozenset[str]:
    """Find the SHELLS that packages install."""
    return frozenset().union(*(frozenset(SHELLS).intersection(each.targets) for each in contents))


def has_starting_files(contents: PackageContents) -> bool:
    """Whether a package may have variables or activation scripts."""
    return has_some(contents.directories)


def links_folders(contents: Iterable[PackageContents]) -> bool:
    """Whether a directory of variables or activation scripts is a link."""
    return any(not FOLDERS.isdisjoint(each.targets) for each in contents)


def _find_paths(task: EnvironmentLayerTask, fragment: FragmentTask) -> FilePart:
    with _raise_if_gone(fragment):
        return read_paths(task.data.fragment(fragment.recipe.key))


def collect_starting_files(task: EnvironmentLayerTask) -> list[StartingFile]:
    """Collect variables and activation scripts as they are in the image, following links. Raises FragmentsGone."""
    files: list[StartingFile] = []
    links: dict[str, str] = {}
    for fragment in task.starting:
        with _raise_if_gone(fragment):
            kept = read_starting_files(task.data.fragment(fragment.recipe.key))
        package = str(fragment.package)
        files += (_make_starting_file(package, path, content) for path, content in kept.contents.items())
        links |= dict.fromkeys(kept.links, package)
        if kept.more:
            files.append(StartingFile(package, VARIABLES, None, f"has too many files; {kept.more} are not read"))
    return files + _follow(task, links) if links or task.linked else files


def _follow(task: EnvironmentLayerTask, links: Mapping[str, str]) -> list[StartingFile]:
    """Read the files to which links lead. `links` maps each link to its package."""
    owners = {path: fragment for fragment in task.fragments for path in _list_paths(task, fragment)}
    keys = {path: task.data.fragment(fragment.recipe.key) for path, fragment in owners.items()}
    tree = InstalledFiles(task.lock.spec.prefix, keys)
    wanted = dict(links)
    for folder in (VARIABLES, SCRIPTS) if task.linked else ():
        where = tree.resolve(folder)
        paths = {f"{folder}/{name}": f"{where}/{name}" for name in tree.list_names_in(folder)}
        wanted |= {path: str(owners[lies].package) for path, lies in paths.items() if starts(path)}
    real = {path: tree.resolve(path) for path in wanted}
    contents = tree.read({path for path in real.values() if path}, LARGEST)
    return [
        _make_starting_file(package, path, contents[lies])
        if (lies := real[path]) in contents
        else StartingFile(package, path, None, "is a link that leads to no file under the prefix")
        for path, package in wanted.items()
    ]


def _make_starting_file(package: str, path: str, content: bytes | None) -> StartingFile:
    return StartingFile(package, path, content, "" if content is not None else "is too large to be read")


def _list_paths(task: EnvironmentLayerTask, fragment: FragmentTask) -> set[str]:
    recipe = fragment.recipe
    contents = inspect(fragment.archive, fragment.package, recipe.python, task.data.contents, task.limits)
    return set(contents.list_installed()).difference(recipe.excluded)


@contextlib.contextmanager
def _raise_if_gone(fragment: FragmentTask) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FragmentsGone([fragment.recipe.key]) from None
