"""Makes the channel: chooses wheels, finds the libraries they need, makes missing packages, and indexes."""

from __future__ import annotations

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from builder.errors import SampleChannelFailed
from builder.sample_channel import elf
from builder.sample_channel.indexing import index
from builder.sample_channel.interpreter import Interpreter, make_python_recipe
from builder.sample_channel.libraries import Libraries
from builder.sample_channel.package import Recipe, write_package
from builder.sample_channel.progress import Progress, Step, show_nothing
from builder.sample_channel.system_data import make_certificates_recipe, make_tzdata_recipe
from builder.sample_channel.wheel import Wheel
from builder.sample_channel.wheel_cache import WheelCache
from builder.sample_channel.wheel_package import find_needed_libraries, make_wheel_recipe
from storage.disk.files import remove_leftovers

DEFAULT = ("numpy", "scipy", "pandas", "requests", "flask", "ipython", "jupyterlab")
TWICE = ("numpy",)
"""Packages that the channel holds in an older minor version too, so that a solver has a choice."""
_SOURCES_OF_DATA = ("tzdata", "certifi")


@dataclass(frozen=True)
class ChannelSummary:
    """What was made. File names have no directory; `size` is in bytes, of all requested packages."""

    directory: Path
    made: tuple[str, ...]
    kept: tuple[str, ...]
    """Existing packages, made earlier from the same sources."""
    removed: tuple[str, ...]
    """Older builds of packages that were made now."""
    size: int
    missing_libraries: tuple[str, ...]
    """Sonames that some wheel needs and this machine lacks."""


def make_channel(
    directory: Path,
    names: Sequence[str] = DEFAULT,
    progress: Progress = show_nothing,
    *,
    cache: Path,
    workers: int | None = None,
) -> ChannelSummary:
    """Make or complete the channel at `directory` with `names` (PEP 508 requirements) and all their dependencies.

    Wheels are kept in `cache`; once they are there, no network is used. Existing packages from the same sources stay,
    and so do other packages in the channel. Raises SampleChannelFailed. It blocks, so keep it out of an event loop's
    thread.
    """
    interpreter = Interpreter.find_running()
    wheels = _choose(names, WheelCache(cache), progress)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        needed = dict(zip(wheels, pool.map(find_needed_libraries, wheels), strict=True))
        libraries = _find_libraries(interpreter, needed.values())
        recipes = [
            make_python_recipe(interpreter, libraries),
            *libraries.make_recipes(interpreter.subdir),
            *(_make_data_recipes(wheels)),
            *_make_wheel_recipes(names, wheels, interpreter, libraries, needed),
        ]
        wanted = {recipe.path_in(directory): recipe for recipe in recipes}
        missing = {path: recipe for path, recipe in wanted.items() if not path.exists()}
        _make(missing, len(wanted), pool, progress)
    removed = _remove_superseded(directory, wanted)
    progress(Step("index", 0, 1))
    (directory / "noarch").mkdir(parents=True, exist_ok=True)
    # otherwise what an interrupted run left would be indexed as a package
    remove_leftovers(path for path in directory.iterdir() if path.is_dir())
    index(directory)
    progress(Step("index", 1, 1))
    return ChannelSummary(
        directory,
        made=tuple(sorted(path.name for path in missing)),
        kept=tuple(sorted(path.name for path in wanted.keys() - missing.keys())),
        removed=removed,
        size=sum(path.stat().st_size for path in wanted),
        missing_libraries=tuple(sorted(libraries.missing)),
    )


def _choose(names: Sequence[str], cache: WheelCache, progress: Progress) -> list[Wheel]:
    """Choose the wheels of `names` and of all their dependencies, then older ones of packages that come twice."""
    heard: list[str] = []

    def hear(name: str) -> None:
        heard.append(name)
        progress(Step("wheels", len(heard), 0, name))

    progress(Step("wheels", 0, 0))
    _parse(names)
    newest = [Wheel.at(path) for path in cache.choose([*names, *_SOURCES_OF_DATA], heard=hear)]
    older = []
    for wheel in newest:
        if wheel.name in TWICE:
            requirement = f"{wheel.name}{_exclude_newer(wheel, newest)}"
            older += [Wheel.at(path) for path in cache.choose([requirement], dependencies=False, heard=hear)]
    chosen = [*newest, *older]
    progress(Step("wheels", len(chosen), len(chosen)))
    return chosen


def _exclude_newer(wheel: Wheel, others: Iterable[Wheel]) -> SpecifierSet:
    """Return the versions before the wheel's minor version that all others accept too."""
    accepted = SpecifierSet(f"<{wheel.version.major}.{wheel.version.minor}")
    for other in others:
        for requirement in other.requires:
            if canonicalize_name(requirement.name) == wheel.name and _applies(requirement, {""}):
                accepted &= requirement.specifier
    return accepted


def _parse(names: Iterable[str]) -> list[Requirement]:
    try:
        return [Requirement(name) for name in names]
    except InvalidRequirement as error:
        raise SampleChannelFailed(f"not a package name: {error}") from error


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def _find_libraries(interpreter: Interpreter, needed: Iterable[frozenset[str]]) -> Libraries:
    places = {**elf.list_known_libraries(), **elf.list_loaded_libraries(interpreter.binaries.values())}
    dynamics = (elf.read_dynamic(file.read_bytes()) for file in interpreter.binaries.values())
    sonames = {soname for dynamic in dynamics if dynamic for soname in dynamic.needed}
    return Libraries.find_needed(sonames.union(*needed), places)


def _make_data_recipes(wheels: Iterable[Wheel]) -> Iterable[Recipe]:
    makers = {"tzdata": make_tzdata_recipe, "certifi": make_certificates_recipe}
    return [makers[wheel.name](wheel) for wheel in wheels if wheel.name in makers]


def _make_wheel_recipes(
    names: Sequence[str],
    wheels: Sequence[Wheel],
    interpreter: Interpreter,
    libraries: Libraries,
    needed: Mapping[Wheel, frozenset[str]],
) -> Iterable[Recipe]:
    extras = _find_extras(_parse(names), wheels)
    for wheel in wheels:
        requirements = [requirement for requirement in wheel.requires if _applies(requirement, extras[wheel.name])]
        yield make_wheel_recipe(wheel, requirements, interpreter, libraries, needed[wheel])


def _find_extras(requested: Iterable[Requirement], wheels: Sequence[Wheel]) -> Mapping[str, frozenset[str]]:
    """Collect the requested extras of each package. conda has no extras: what one dependent asks for, all get."""
    extras: dict[str, frozenset[str]] = defaultdict(lambda: frozenset({""}))
    for requirement in requested:
        extras[canonicalize_name(requirement.name)] |= requirement.extras
    changed = True
    while changed:
        before = dict(extras)
        for wheel in wheels:
            for requirement in wheel.requires:
                if _applies(requirement, extras[wheel.name]):
                    extras[canonicalize_name(requirement.name)] |= requirement.extras
        changed = before != extras
    return extras


def _make(missing: Mapping[Path, Recipe], total: int, pool: ThreadPoolExecutor, progress: Progress) -> None:
    done = total - len(missing)
    progress(Step("packages", done, total))
    running = {pool.submit(_make_one, recipe, path): recipe for path, recipe in missing.items()}
    try:
        for future in as_completed(running):
            future.result()
            done += 1
            progress(Step("packages", done, total, running[future].stem))
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def _make_one(recipe: Recipe, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="condery-sample-") as work:
        write_package(recipe, path, Path(work))


def _remove_superseded(directory: Path, wanted: Iterable[Path]) -> tuple[str, ...]:
    """Remove packages with the same name, version and kind of build that were made from other sources."""
    keep = set(wanted)
    kinds = {_classify(path) for path in keep}
    removed = []
    for path in sorted(directory.glob("*/*.conda")):
        if path not in keep and _classify(path) in kinds:
            path.unlink()
            removed.append(path.name)
    return tuple(removed)


def _classify(path: Path) -> tuple[str, str]:
    return path.parent.name, re.sub(r"h[0-9a-f]{8}_0(?=_|\.conda$)", "", path.name)
