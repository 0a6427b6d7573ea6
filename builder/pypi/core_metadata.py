"""What a wheel's METADATA says that a lock needs: its requirements, its licence, the versions of python."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import Version

from builder.errors import PackageRefused
from builder.work.worker import working_on

LARGEST = 4 << 20
MOST_REQUIREMENTS = 2000
_LONGEST = 1000
_MOST_LINES = 10_000
"""Before the description. Real ones have some hundred."""
_MOST_PARENTHESES = 50
_LICENSE_CLASSIFIER = "License :: OSI Approved :: "


@dataclass(frozen=True)
class CoreMetadata:
    """`name` is that of PEP 503, `version` that of PEP 440."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    """Requirements (PEP 508); those of extras have a marker that says so."""
    requires_python: str | None = None
    license: str | None = None
    extras: tuple[str, ...] = ()


def parse_metadata(content: bytes, what: str) -> CoreMetadata:
    """Parse METADATA or PKG-INFO. Raises PackageRefused(what)."""
    message = _read_headers(content, what)

    def find(name: str) -> str | None:
        value = message.get(name)
        text = str(value).strip() if value is not None else ""
        return text[:_LONGEST] if text and text.upper() != "UNKNOWN" else None

    def find_all(name: str) -> list[str]:
        return [str(each).strip() for each in message.get_all(name, [])]

    try:
        name = canonicalize_name(find("Name") or "", validate=True)
        version = str(Version(find("Version") or ""))
    except (InvalidName, ValueError):
        raise PackageRefused(what, "its metadata has no name and version as Python packages have") from None
    requires = [each for each in find_all("Requires-Dist") if _is_requirement(each)]
    if len(requires) > MOST_REQUIREMENTS:
        raise PackageRefused(what, f"it has {len(requires)} requirements; at most {MOST_REQUIREMENTS} are allowed")
    return CoreMetadata(
        name,
        version,
        tuple(requires),
        find("Requires-Python"),
        _choose_license(find("License-Expression"), find("License"), find_all("Classifier")),
        tuple(find_all("Provides-Extra"))[:MOST_REQUIREMENTS],
    )


def find_name(content: bytes) -> str | None:
    """The distribution's name (PEP 503), whatever else the metadata says."""
    try:
        found = _read_headers(content, "").get("Name")
        return canonicalize_name(str(found).strip(), validate=True) if found else None
    except (InvalidName, PackageRefused):
        return None


def read_wheel_metadata(path: Path, what: str) -> bytes:
    """The METADATA of a wheel on this machine. Raises PackageRefused."""
    with working_on(what):
        try:
            with zipfile.ZipFile(path) as wheel:
                names = [
                    each
                    for each in wheel.infolist()
                    if each.filename.count("/") == 1 and each.filename.endswith(".dist-info/METADATA")
                ]
                if len(names) != 1 or names[0].file_size > LARGEST:
                    raise PackageRefused(what, "it has not one METADATA of a usual size")
                with wheel.open(names[0]) as file:
                    return file.read(LARGEST)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, RuntimeError) as error:
            raise PackageRefused(what, f"it is not a sound zip file ({error})") from None


def _read_headers(content: bytes, what: str) -> Message:
    """Without the description, which is most of it. Raises PackageRefused(what)."""
    text = re.split(rb"\r?\n\r?\n", content[:LARGEST], maxsplit=1)[0]
    # counted before the parser makes an object of each
    if (count := text.count(b"\n")) > _MOST_LINES:
        raise PackageRefused(what, f"the head of its metadata has {count} lines; at most {_MOST_LINES} are allowed")
    return HeaderParser().parsestr(text.decode("utf-8", "replace"))


def _is_requirement(text: str) -> bool:
    if len(text) > _LONGEST or text.count("(") > _MOST_PARENTHESES:
        return False
    try:
        Requirement(text)
    except (InvalidRequirement, RecursionError):
        return False
    return True


def _choose_license(expression: str | None, text: str | None, classifiers: list[str]) -> str | None:
    """The licence: the expression, else a short text on one line, else what classifiers name."""
    if expression:
        return expression
    if text and len(text) <= 100 and "\n" not in text:
        return text
    named = [each.removeprefix(_LICENSE_CLASSIFIER) for each in classifiers if each.startswith(_LICENSE_CLASSIFIER)]
    return " OR ".join(named[:5]) or None
