"""One package of a lock that somebody else wrote, checked so far that a build may use it.

Its address says what it is: `<channel>/<subdir>/<name>-<version>-<build>.conda`. What the lock says besides must agree,
so that rules about names and versions judge what is really fetched. The lock's claims about licence and age are not
taken, because rules judge them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from builder.channels.channel import check_form, strip_credentials
from builder.environments.inputs.input import InputSettings
from builder.environments.inputs.locks.locked_wheel import WheelFacts, read_wheel
from builder.errors import InputInvalid
from builder.locks.grammar import BUILD, FILE_NAME, LARGEST, LONGEST, NAME, VERSION, is_site_packages
from builder.locks.lock import Lock, LockedPackage, list_conda, list_wheels, order_by_dependency
from builder.names.match_spec import has_large_number
from builder.names.spec import EnvironmentSpec
from storage.errors import quote
from storage.text import redact

MOST_PACKAGES = 20_000
"""Of all platforms of a lock."""
LONGEST_URL = 2000
_MOST_DEPENDENCIES = 1000
_LONGEST_DEPENDENCY = 1000

_MD5 = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"(?:^|_)([0-9]{1,9})$")
_SUBDIR = re.compile(r"noarch|[a-z0-9]+-[a-z0-9]+")


@dataclass(frozen=True)
class Address:
    """Where an archive is, without credentials, and what its address says of it."""

    url: str
    channel: str
    subdir: str
    file_name: str
    name: str
    version: str
    build: str
    had_credentials: bool = False


@dataclass(frozen=True)
class Facts:
    """What a lock says of a package besides its address. All of it is optional but one hash."""

    sha256: Any = None
    md5: Any = None
    size: Any = None
    depends: Any = ()
    constrains: Any = ()
    python_site_packages_path: Any = None
    noarch: Any = None
    build_number: Any = None
    agrees: Mapping[str, Any] = field(default_factory=dict)
    """Fields that must agree with the address: `name`, `version`, `build`, `subdir`."""


def read_address(url: Any, path: str, settings: InputSettings) -> Address:
    """Read the address of an archive. Raises InputInvalid."""
    if not isinstance(url, str) or not url:
        raise InputInvalid(path, "it must be the address of a package")
    shown = quote(redact(url))
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise InputInvalid(path, f"{shown} is not an address: it is too long, or has a space or a control character")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        raise InputInvalid(path, f"{shown} is not an address") from None
    _check_scheme(parts, shown, path, settings)
    if parts.query or parts.fragment:
        raise InputInvalid(path, f"{shown} has more than a path, which addresses of packages do not have")
    folder, _, last = parts.path.rpartition("/")
    base, _, subdir = folder.rpartition("/")
    file_name = unquote(last)
    if any(step in ("", ".", "..") for step in unquote(base).split("/")[1:]):
        raise InputInvalid(path, f"{shown} has an empty step, . or .. in its path")
    if not _SUBDIR.fullmatch(subdir) or not FILE_NAME.fullmatch(file_name):
        raise InputInvalid(
            path, f"{shown} does not end like a package's address: <channel>/<platform>/<name>-<version>-<build>.conda"
        )
    if parts.scheme == "file":
        return _read_file(parts, unquote(base), subdir, file_name, path, settings)
    clean = strip_credentials(url)
    channel = strip_credentials(urlunsplit(parts._replace(path=base)))
    name, version, build = _split_file_name(file_name, path)
    return Address(clean, _name_channel(channel, path, settings), subdir, file_name, name, version, build, clean != url)


def find_local_channel(folder: str, settings: InputSettings) -> tuple[str, str] | None:
    """The address and the name of the channel that is the directory `folder`, if the server's settings name it."""
    wanted = folder.rstrip("/")
    return next(
        (each for each in settings.local_channels if unquote(urlsplit(each[0]).path).rstrip("/") == wanted), None
    )


def _read_file(
    parts: SplitResult, folder: str, subdir: str, file_name: str, path: str, settings: InputSettings
) -> Address:
    """The address of a file of the server, written as the settings write its channel. Raises InputInvalid."""
    found = find_local_channel(folder, settings) if parts.netloc in ("", "localhost") else None
    if found is None:
        raise InputInvalid(
            path,
            f"{quote(parts.geturl())} is a file of the machine where the lock was made; this server reads files only "
            "of directories that its settings name as channels (channels, allowed_channels)",
        )
    address, channel = found
    url = f"{address}{subdir}/{file_name}"
    return Address(url, channel, subdir, file_name, *_split_file_name(file_name, path))


def _check_scheme(parts: SplitResult, shown: str, path: str, settings: InputSettings) -> None:
    own = {urlsplit(channel).scheme for channel in [*settings.channels, settings.channel_alias] if "://" in channel}
    allowed = ["https", "http", "file", *sorted(own - {"https", "http", "file", ""})]
    if parts.scheme not in allowed:
        raise InputInvalid(path, f"{shown} is not an address that starts with https:// or http://")
    if parts.scheme != "file" and not parts.hostname:
        raise InputInvalid(path, f"{shown} has no host")


def _split_file_name(file_name: str, path: str) -> tuple[str, str, str]:
    stem = re.sub(r"\.(conda|tar\.bz2)$", "", file_name)
    name, *rest = stem.rsplit("-", 2)
    if len(rest) != 2 or not (NAME.fullmatch(name) and VERSION.fullmatch(rest[0]) and BUILD.fullmatch(rest[1])):
        raise InputInvalid(path, f"{quote(file_name)} is not the name of a package: <name>-<version>-<build>.conda")
    if has_large_number(rest[0]):
        raise InputInvalid(path, f"a number in the version of {quote(file_name)} has more than 64 bits")
    if len(file_name) > LONGEST:
        raise InputInvalid(path, f"the file's name has {len(file_name)} characters; at most {LONGEST} are allowed")
    return name, rest[0], rest[1]


def _name_channel(url: str, path: str, settings: InputSettings) -> str:
    """The channel as policies know it: its name if it is below the alias, else its address."""
    url = url.rstrip("/")
    alias = settings.channel_alias.rstrip("/") + "/"
    channel = url.removeprefix(alias) or url
    try:
        return check_form(channel)
    except ValueError as error:
        raise InputInvalid(path, str(error)) from None


def drop_credentials(value: Any) -> Any:
    """The document of a lock without the credentials in its addresses, to be stored and shown."""
    if isinstance(value, dict):
        return {drop_credentials(key): drop_credentials(each) for key, each in value.items()}
    if isinstance(value, list):
        return [drop_credentials(each) for each in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    try:
        return redact(strip_credentials(value))
    except ValueError:
        return redact(value)


def read_package(address: Address, facts: Facts, platform: str, path: str) -> LockedPackage:
    """Make the package of one platform. Raises InputInvalid."""
    for key, value in facts.agrees.items():
        if value is not None and value != getattr(address, key):
            raise InputInvalid(
                f"{path}.{key}",
                f"it is {quote(str(value))}, but the address says {quote(getattr(address, key))}; "
                "they must be the same",
            )
    if address.subdir not in (platform, "noarch"):
        raise InputInvalid(path, f"its address is one of {address.subdir}, but it is locked for {platform}")
    sha256, md5 = _read_hash(facts.sha256, "sha256", _SHA256, path), _read_hash(facts.md5, "md5", _MD5, path)
    if not sha256 and not md5:
        raise InputInvalid(
            path,
            "it has neither sha256 nor md5, so nobody can tell whether the right bytes arrive (conda list --explicit "
            "--md5 writes an explicit list with them)",
        )
    return LockedPackage(
        name=address.name,
        version=address.version,
        build=address.build,
        build_number=_read_number(facts.build_number, address.build, path),
        subdir=address.subdir,
        channel=address.channel,
        url=address.url,
        file_name=address.file_name,
        size=_read_size(facts.size, path),
        sha256=sha256,
        md5=md5,
        depends=read_specs(facts.depends, f"{path}.depends"),
        constrains=read_specs(facts.constrains, f"{path}.constrains"),
        noarch=_read_noarch(facts.noarch, path),
        python_site_packages_path=_read_site_packages(facts.python_site_packages_path, path),
    )


def _read_hash(value: Any, kind: str, pattern: re.Pattern[str], path: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value.lower()):
        raise InputInvalid(f"{path}.{kind}", f"{quote(str(value))} is not a {kind}, which is hexadecimal")
    return value.lower()


def _read_number(value: Any, build: str, path: str) -> int:
    """The build number, which most builds end in."""
    if value is None:
        match = _NUMBER.search(build)
        return int(match[1]) if match else 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise InputInvalid(f"{path}.build_number", f"{quote(str(value))} is not a build number")
    return value


def _read_size(value: Any, path: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST):
        raise InputInvalid(f"{path}.size", f"{quote(str(value))} is not a size in bytes")
    return value


def _read_noarch(value: Any, path: str) -> str | None:
    if value is None:
        return None
    if value not in ("python", "generic"):
        raise InputInvalid(f"{path}.noarch", f"it is {quote(str(value))}; it must be python or generic")
    return str(value)


def _read_site_packages(value: Any, path: str) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= LONGEST and is_site_packages(value)):
        raise InputInvalid(
            f"{path}.python_site_packages_path", f"{quote(str(value))} is not a path below the environment"
        )
    return value


def read_specs(value: Any, path: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) > _MOST_DEPENDENCIES:
        raise InputInvalid(path, f"it must be a list of at most {_MOST_DEPENDENCIES} match specs")
    for index, each in enumerate(value):
        if not isinstance(each, str) or not each or len(each) > _LONGEST_DEPENDENCY or not each.isprintable():
            raise InputInvalid(f"{path}[{index}]", "it is not a match spec")
    return tuple(value)


class LockReader:
    """Collects the packages of each platform, in the file's order, and what to warn of."""

    def __init__(self, settings: InputSettings, warnings: list[str]) -> None:
        self.settings = settings
        self._warnings = warnings
        self._packages: dict[str, dict[str, LockedPackage]] = {}
        self._places: dict[tuple[str, str], str] = {}
        self._count = 0
        self._hidden: set[str] = set()

    def _count_one(self) -> None:
        self._count += 1
        if self._count > MOST_PACKAGES:
            raise InputInvalid("", f"it has more than {MOST_PACKAGES} packages")

    def begin(self, platform: str) -> None:
        """The lock has this platform, perhaps with no package."""
        self._packages.setdefault(platform, {})

    def add(self, platform: str, url: Any, facts: Facts, path: str) -> None:
        """Add a package. Raises InputInvalid, also for a second one of the same name."""
        self._count_one()
        address = read_address(url, path, self.settings)
        if address.had_credentials and address.channel not in self._hidden:
            self._hidden.add(address.channel)
            self._warnings.append(
                f"{path}: addresses of the channel {address.channel} have credentials, which are left out; store them "
                "for the namespace: condery credential set"
            )
        self._keep(read_package(address, facts, platform, path), platform, path)

    def add_wheel(self, platform: str, url: Any, facts: WheelFacts, path: str) -> None:
        """Add a PyPI package. Raises InputInvalid, also for a second one of the same name."""
        self._count_one()
        self._keep(read_wheel(url, facts, platform, path, self.settings), platform, path)

    def _keep(self, package: LockedPackage, platform: str, path: str) -> None:
        known = self._packages.setdefault(platform, {})
        if other := known.get(package.name):
            if (other.url, other.archive_key) == (package.url, package.archive_key):
                return
            raise InputInvalid(
                path,
                f"{package} and {other} ({self._places[platform, package.name]}) are both locked for {platform}; an "
                "environment has one package of a name",
            )
        known[package.name] = package
        self._places[platform, package.name] = path

    def finish(self, channels: Iterable[str], virtual_packages: Sequence[tuple[str, str]] = ()) -> Lock:
        """Make the lock. `channels` are those that the file lists, in order; only those in use are kept."""
        packages = {
            # an explicit list says nothing of dependencies, but is in their order (CEP 23)
            platform: order_by_dependency(each.values())
            if _has_depends(each.values())
            else (*list_conda(each.values()), *list_wheels(each.values()))
            for platform, each in sorted(self._packages.items())
        }
        used = dict.fromkeys(package.channel for each in packages.values() for package in list_conda(each))
        listed = [channel for channel in dict.fromkeys(channels) if channel in used]
        spec = EnvironmentSpec(
            items=(),
            channels=tuple(dict.fromkeys([*listed, *used])),
            platforms=tuple(packages),
            virtual_packages=tuple(virtual_packages),
            prefix=self.settings.prefix,
        )
        return Lock(spec, packages)


def _has_depends(packages: Iterable[LockedPackage]) -> bool:
    return any(package.depends for package in packages)


def choose_built(locked: Sequence[str], settings: InputSettings, path: str, warnings: list[str]) -> tuple[str, ...]:
    """Of a lock's platforms for which images can be made, those that the settings have, or all if they have none."""
    wanted = tuple(each for each in locked if each in settings.platforms)
    if wanted and len(wanted) < len(locked):
        others = ", ".join(each for each in locked if each not in wanted)
        warnings.append(f"{path}: this server builds for {', '.join(wanted)}; left out: {others}")
    return wanted or tuple(locked)
