"""The python of a lock as wheels see it: its version, and the tags of wheels that run there, the best first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags

from builder.errors import PackageRefused, RequirementRefused
from builder.locks.lock import Lock, LockedPackage, list_wheels
from builder.names.wheel_name import parse_wheel_name
from builder.platforms import WHEEL_MACHINES

_TARGETS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""Minor versions of glibc 2 that uv knows as platforms."""
_OLDEST = 17
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_VERSION = re.compile(r"(?P<major>[0-9]{1,3})\.(?P<minor>[0-9]{1,3})(?:\.(?P<micro>[0-9]{1,3}))?(?P<rest>.*)")
_OTHERS = ("pypy", "graalpy")
_FREE = re.compile(r"_cp[0-9]+t(?:_|$)")

DEFAULT_GLIBC = "2.28"
"""As for conda packages, where the base has none."""


@dataclass(frozen=True)
class WheelPlatform:
    """`python` is a whole version; `glibc` the minor of 2, which is no newer than the machine's."""

    platform: str
    python: str
    glibc: int

    @classmethod
    def of(cls, platform: str, packages: Sequence[LockedPackage], glibc: str, wanted: str) -> WheelPlatform:
        """Raises RequirementRefused(wanted) where no wheels can be installed."""
        if platform not in WHEEL_MACHINES:
            raise RequirementRefused(
                wanted,
                f"PyPI packages can be had for {' and '.join(WHEEL_MACHINES)}, not for {platform}; leave one out",
            )
        python = next((each for each in packages if each.name == "python"), None)
        if python is None:
            raise RequirementRefused(wanted, f"there is no python in the environment for {platform}; add python")
        return cls(platform, _find_version(python, packages, wanted), _find_glibc(glibc, wanted))

    @property
    def target(self) -> str:
        """As uv names it."""
        return f"{WHEEL_MACHINES[self.platform]}-manylinux_2_{self.glibc}"

    @cached_property
    def ranks(self) -> Mapping[Tag, int]:
        """How good each tag is that runs here; 0 is best."""
        major, minor = map(int, self.python.split(".")[:2])
        return _rank_tags(major, minor, WHEEL_MACHINES[self.platform], self.glibc)


@lru_cache(maxsize=16)
def _rank_tags(major: int, minor: int, machine: str, glibc: int) -> Mapping[Tag, int]:
    """A thousand tags, which take 5 ms: as long as all that is done beside uv."""
    platforms = list(_list_platforms(machine, glibc))
    tags = [
        *cpython_tags((major, minor), [f"cp{major}{minor}"], platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]
    return MappingProxyType({tag: rank for rank, tag in reversed(list(enumerate(tags)))})


def _list_platforms(machine: str, glibc: int) -> Iterator[str]:
    for minor in range(glibc, 4 if machine == "x86_64" else _OLDEST - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY:
            yield f"{_LEGACY[minor]}_{machine}"
    yield f"linux_{machine}"


def check_lock_of_wheels(lock: Lock, glibc: Mapping[str, str]) -> None:
    """`check_wheels` of every platform, whose glibc is in `glibc` if the base says it."""
    for platform, packages in lock.packages.items():
        check_wheels(platform, packages, glibc.get(platform) or DEFAULT_GLIBC)


def check_wheels(platform: str, packages: Sequence[LockedPackage], glibc: str) -> None:
    """Check that the wheels of a lock that somebody sent run in its environment: what uv chooses does.

    Raises PackageRefused, and RequirementRefused as `WheelPlatform.of` does.
    """
    wheels = list_wheels(packages)
    if not wheels:
        return
    target = WheelPlatform.of(platform, packages, glibc, wheels[0].title)
    for wheel in wheels:
        tags = parse_wheel_name(wheel.file_name)[3]
        if target.ranks.keys().isdisjoint(tags):
            raise PackageRefused(
                wheel.file_name,
                f"it does not run with python {target.python} on {platform} with glibc 2.{target.glibc}, which the "
                "environment has",
            )
        if wheel.requires_python and not _permits(wheel.requires_python, target.python):
            raise PackageRefused(
                wheel.file_name, f"it requires python {wheel.requires_python}, and the environment has {target.python}"
            )


def _permits(versions: str, python: str) -> bool:
    try:
        return python in SpecifierSet(versions, prereleases=True)
    except InvalidSpecifier:
        return False


def _find_version(python: LockedPackage, packages: Sequence[LockedPackage], wanted: str) -> str:
    found = _VERSION.fullmatch(python.version)
    if found is None or found["rest"]:
        raise RequirementRefused(
            wanted, f"the environment has python {python.version}, for which wheels cannot be chosen; ask for a release"
        )
    abi = next((each for each in packages if each.name == "python_abi"), None)
    of_abi = abi.build if abi else ""
    layout = python.python_site_packages_path or ""
    if layout.endswith("t/site-packages") or of_abi.endswith("t") or _FREE.search(python.build):
        kind = "is free-threaded"
    elif any(each in build for each in _OTHERS for build in (python.build, of_abi)):
        kind = "is not CPython"
    else:
        return f"{found['major']}.{found['minor']}.{found['micro'] or 0}"
    raise RequirementRefused(
        wanted,
        f"python {python.version} ({python.build}) {kind}, for which no wheels are chosen here; ask for a build of "
        "CPython with its usual ABI, such as python-gil",
    )


def _find_glibc(glibc: str, wanted: str) -> int:
    major, minor = (*map(int, re.findall("[0-9]+", glibc)[:2]), 0, 0)[:2]
    fitting = [each for each in _TARGETS if (major, minor) >= (2, each)]
    if not fitting:
        raise RequirementRefused(
            wanted, f"the image has glibc {glibc}, and wheels need 2.{_OLDEST} or later; take a newer base image"
        )
    return max(fitting)
