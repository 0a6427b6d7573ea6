"""What the documents of a wheel's `.dist-info` say: which distribution it is, and for which installers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packaging.utils import InvalidWheelFilename, canonicalize_name
from packaging.version import InvalidVersion, Version

from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.names.wheel_name import parse_wheel_name
from storage.errors import quote

_LARGEST_HEADERS = 1 << 20
"""Characters of the fields at the start of METADATA. A description may come in one of them."""


def check_name(package: LockedPackage) -> None:
    """Raises PackageRefused unless the file's name is that of a wheel of the package's name and version."""
    try:
        name, version, _, _ = parse_wheel_name(package.file_name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise PackageRefused(str(package), f"its file name is not that of a wheel ({error})") from None
    if name != package.title or str(version) != str(_read_version(str(package), package.version)):
        raise PackageRefused(str(package), f"its file {quote(package.file_name, 120)} is named for another version")


def find_information(package: LockedPackage, names: Sequence[str]) -> str:
    """Return the name of the wheel's `.dist-info` directory. Raises PackageRefused."""
    found = {top for name in names if (top := name.partition("/")[0]).endswith(".dist-info") and top != name}
    if len(found) != 1:
        listed = ", ".join(sorted(found)[:5]) or "none"
        raise PackageRefused(str(package), f"it has {len(found)} .dist-info directories ({listed}); one is expected")
    (information,) = found
    stem = information.removesuffix(".dist-info")
    if not any(
        canonicalize_name(stem[:at]) == package.title and _is_version(stem[at + 1 :], package.version)
        for at, character in enumerate(stem)
        if character == "-"
    ):
        raise PackageRefused(str(package), f"its directory {quote(information, 120)} is named for something else")
    return information


def check_wheel(package: str, content: bytes) -> None:
    """Raises PackageRefused unless its WHEEL has a version that installers know (PEP 427)."""
    # some have the field twice; installers believe the first
    version = (_read_headers(package, "WHEEL", content).get("wheel-version") or [""])[0]
    major, dot, minor = version.partition(".")
    if not (dot and major.isascii() and major.isdecimal() and minor):
        raise PackageRefused(package, f"its WHEEL has the Wheel-Version {quote(version, 40)}, which is none")
    if major != "1":
        raise PackageRefused(package, f"its WHEEL has the Wheel-Version {quote(version, 40)}; only 1 is known")


def check_metadata(package: LockedPackage, content: bytes) -> None:
    """Raises PackageRefused unless its METADATA has the name and the version of the package."""
    headers = _read_headers(str(package), "METADATA", content)
    name, version = (headers.get(key, [""])[0] for key in ("name", "version"))
    if canonicalize_name(name) != package.title or not _is_version(version, package.version):
        raise PackageRefused(
            str(package), f"its METADATA is that of {quote(name, 80)} {quote(version, 40)}, not of this package"
        )


def _is_version(text: str, expected: str) -> bool:
    """Whether `text` is the expected version, which may have a local part more."""
    try:
        found, wanted = Version(text.replace("_", "-")), Version(expected)
    except ValueError:
        return False
    return found == wanted or str(found) == wanted.public


def _read_version(package: str, text: str) -> Version:
    try:
        return Version(text)
    except ValueError:
        raise PackageRefused(package, f"its version {quote(text, 40)} is not one of PyPI's") from None


def _read_headers(package: str, document: str, content: bytes) -> Mapping[str, list[str]]:
    """Read the fields at the start of a document in the form of an e-mail, by their names in small letters."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    start = text.partition("\n\n")[0]
    if len(start) > _LARGEST_HEADERS:
        raise PackageRefused(package, f"its {document} has fields of {len(start)} characters")
    headers: dict[str, list[str]] = {}
    for line in start.split("\n"):
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            headers.setdefault(key.lower(), []).append(value.strip())
    return headers
