"""What is wrong with a package's record in a channel's index. Records become file names, addresses and documents."""

from __future__ import annotations

from builder.locks.grammar import BUILD, FILE_NAME, LARGEST, LONGEST, NAME, VERSION, is_site_packages
from builder.locks.lock import LockedPackage

_SHOWN = 60


def find_record_problem(package: LockedPackage, platform: str) -> str | None:
    """Return why `package` must not come from a channel for `platform`, as the end of a sentence; None if it may."""
    for what, value, pattern in (
        ("name", package.name, NAME),
        ("version", package.version, VERSION),
        ("build", package.build, BUILD),
        ("file name", package.file_name, FILE_NAME),
    ):
        if not pattern.fullmatch(value):
            return f"its channel's index gives {quote(value)} as its {what}, which is not valid"
    if max(len(str(package)), len(package.file_name)) > LONGEST:
        return f"its name, version and build have more than {LONGEST} characters in its channel's index"
    if package.subdir not in (platform, "noarch"):
        return f"its channel's index lists it for {platform}, but its record says {quote(package.subdir)}"
    if not (package.sha256 or package.md5):
        return "its channel's index gives neither sha256 nor md5 for it"
    if package.size is not None and not 0 < package.size <= LARGEST:
        return f"its channel's index gives a size of {package.size} bytes"
    site_packages = package.python_site_packages_path
    if site_packages is not None and not is_site_packages(site_packages):
        return (
            f"its channel's index gives {quote(site_packages)} as site-packages, which is not a path under the prefix"
        )
    return None


def quote(text: str) -> str:
    """Show untrusted text on a terminal: quoted, without control characters, and short."""
    return ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
