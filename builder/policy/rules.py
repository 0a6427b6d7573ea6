"""What one source says of environments: the settings, a namespace, or the deny list."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

from builder.canonical import make_key
from builder.channels.patterns import check_pattern
from builder.names.spec import PackageItem
from builder.platforms import OCI_PLATFORMS
from builder.policy.denial import Denial, parse_items
from builder.policy.licenses import LicenseRules, normalize_pattern
from storage.text import redact

T = TypeVar("T")

UnknownLicenses = Literal["refuse", "take"]

SETTINGS = "the settings"
DENY_LIST = "the deny list"

MOST_DAYS = 3650
MOST_ENTRIES = 10_000
"""In one list of a namespace's policy."""

_PACKAGE_PATTERN = re.compile(r"(?:pypi:)?[a-z0-9_.*-]{1,200}")


@dataclass(frozen=True)
class Rules:
    """The rules of `source`; what is empty or 0 says nothing."""

    source: str = SETTINGS
    allowed_channels: tuple[str, ...] = ()
    """Patterns, as in the setting of that name: every channel of a spec has to match one of them."""
    denied_packages: tuple[Denial, ...] = ()
    required_packages: tuple[PackageItem, ...] = ()
    """What every environment has to hold, whether it was asked for or is a dependency."""
    allowed_licenses: tuple[str, ...] = ()
    denied_licenses: tuple[str, ...] = ()
    unknown_licenses: UnknownLicenses = "refuse"
    cooldown_days: float = 0
    cooldown_exempt: tuple[str, ...] = ()
    """Patterns of packages that may be of any age."""
    allowed_platforms: tuple[str, ...] = ()
    max_packages: int = 0
    max_packages_size: int = 0
    """Bytes of the archives of one platform's packages."""
    written: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The document that these were read from."""

    @classmethod
    def of_document(cls, document: object, source: str, alias: str) -> Self:
        """From JSON with these names; `alias` is where channels are found by name.

        Raises ValueError, which says which field is wrong, and how.
        """
        if not isinstance(document, Mapping):
            raise ValueError('it must be an object such as {"cooldown_days": 7}')  # noqa: TRY004 - a document, no program
        values: dict[str, Any] = {}
        for name, value in document.items():
            if name not in _READERS:
                raise ValueError(f"{redact(str(name))[:60]!r} is no rule; the rules are {', '.join(_READERS)}")
            try:
                values[name] = _READERS[name](value, alias)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return cls(source=source, written={name: value for name, value in document.items() if value}, **values)

    def where(self, rule: str) -> str:
        """Where a rule is set, for people."""
        if self.source == SETTINGS:
            return f"the setting {rule}"
        return self.source if self.source == DENY_LIST else f"{self.source} ({rule})"

    @cached_property
    def key(self) -> str:
        """Names these rules in the keys of what they decide."""
        return make_key("rules", [self.source, self.written])

    @property
    def is_empty(self) -> bool:
        return not self.written

    @cached_property
    def denials(self) -> Mapping[str, tuple[Denial, ...]]:
        """By the name of the package."""
        found: dict[str, list[Denial]] = {}
        for denial in self.denied_packages:
            found.setdefault(denial.name, []).append(denial)
        return {name: tuple(each) for name, each in found.items()}

    @cached_property
    def licenses(self) -> LicenseRules:
        return LicenseRules(self.allowed_licenses, self.denied_licenses, self.unknown_licenses == "take")

    def is_exempt(self, name: str) -> bool:
        """Whether a package may be of any age."""
        return any(fnmatchcase(name, pattern) for pattern in self.cooldown_exempt)


def _read_list(read: Callable[[str, str], T]) -> Callable[[object, str], tuple[T, ...]]:
    def read_all(value: object, alias: str) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise ValueError("must be a list of texts")
        if len(value) > MOST_ENTRIES:
            raise ValueError(f"has {len(value)} entries; at most {MOST_ENTRIES} are allowed")
        return tuple(read(each, alias) for each in value)

    return read_all


def _read_denials(value: object, alias: str) -> tuple[Denial, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")  # noqa: TRY004 - a document from outside is wrong, not a program
    return tuple(read_denial(each, alias) for each in value)


def read_denial(value: object, alias: str) -> Denial:
    """From a line, or an object. Raises ValueError."""
    if isinstance(value, str):
        return Denial.parse(value, alias)
    if isinstance(value, Mapping):
        return Denial.of_document(value, alias)
    raise ValueError('an entry is a text such as openssl <3.0.7, or an object such as {"package": "openssl"}')


def _read_required(text: str, _alias: str) -> PackageItem:
    items = parse_items(text)
    if len(items) > 1 or items[0].channel:
        raise ValueError(f"{text[:100]!r} must be a package and one range of versions, such as ca-certificates")
    return items[0]


def _read_platform(text: str, _alias: str) -> str:
    if text not in OCI_PLATFORMS:
        raise ValueError(f"{text[:60]!r} is not a platform; there is {', '.join(sorted(OCI_PLATFORMS))}")
    return text


def _read_package_pattern(text: str, _alias: str) -> str:
    if not _PACKAGE_PATTERN.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a package's name, in which * matches anything")
    return text


def _read_unknown(value: object, _alias: str) -> UnknownLicenses:
    if value == "refuse" or value == "take":
        return "refuse" if value == "refuse" else "take"
    raise ValueError("must be refuse or take")


def _read_number(most: float) -> Callable[[object, str], float]:
    def read(value: object, _alias: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"must be a number from 0 to {most:g}")
        return value

    return read


def _read_count(value: object, _alias: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 60:
        raise ValueError("must be a whole number, 0 or more")
    return value


_READERS: Mapping[str, Callable[[object, str], object]] = {
    "allowed_channels": _read_list(lambda text, _: check_pattern(text)),
    "denied_packages": _read_denials,
    "required_packages": _read_list(_read_required),
    "allowed_licenses": _read_list(lambda text, _: normalize_pattern(text)),
    "denied_licenses": _read_list(lambda text, _: normalize_pattern(text)),
    "unknown_licenses": _read_unknown,
    "cooldown_days": _read_number(MOST_DAYS),
    "cooldown_exempt": _read_list(_read_package_pattern),
    "allowed_platforms": _read_list(_read_platform),
    "max_packages": _read_count,
    "max_packages_size": _read_count,
}
"""What each rule is read by."""

RULES = tuple(_READERS)
