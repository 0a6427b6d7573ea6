"""Which paths a package may have: how many, how long, where they lead, and which are reserved."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence

from builder.archives.archive import ArchiveLimits
from builder.archives.tar import DIRECTORY
from builder.archives.tar_reader import Member
from builder.errors import PackageRefused

OWN_DIRECTORY = ".condery"
"""The folder under the prefix in which no package may have files."""

_RECORD = re.compile(r"conda-meta/([^/]+\.json|conda-lock\.yml|explicit\.txt)", re.DOTALL)

LONGEST_PATH = 1024
"""Characters of a path under the prefix. Linux allows 4096 bytes, including the prefix and the mount point."""


def list_directories(
    package: str, targets: Sequence[str], kinds: str, scripts: bool, limits: ArchiveLimits
) -> list[str]:
    """List the directories that `targets` need, parents first. Raises PackageRefused if one is also a file or link.

    Otherwise a path could pass through a symbolic link of its own package.
    """
    found = {target.rpartition("/")[0] for target in targets}
    if scripts:
        found.add("bin")
    pending = list(found)
    text = 0
    while pending:
        parent = pending.pop().rpartition("/")[0]
        if parent not in found:
            found.add(parent)
            pending.append(parent)
            # a path of a thousand characters can have five hundred parents
            text += len(parent)
            if text > limits.text:
                raise PackageRefused(package, f"the directories of its paths have more than {limits.text} characters")
    found.discard("")
    if len(found) > limits.paths:
        raise PackageRefused(package, describe_excess(len(found), "directories", limits))
    files = set(targets)
    if len(files) != len(targets):
        twice = Counter(targets).most_common(1)[0][0]
        raise PackageRefused(package, f"it lists {twice} twice")
    if "d" in kinds:
        explicit = {target for target, kind in zip(targets, kinds, strict=True) if kind == "d"}
        files -= explicit
        found |= explicit
    if both := found & files:
        raise PackageRefused(package, f"{min(both)} is a file or link, but the package has files below it")
    return sorted(found)


def describe_excess(count: int, what: str, limits: ArchiveLimits) -> str:
    return f"it has {count} {what}; at most {limits.paths} are allowed (max_paths)"


def check_amount(package: str, paths: Sequence[str], limits: ArchiveLimits) -> None:
    """Raises PackageRefused if there are too many paths, or one is too long."""
    if len(paths) > limits.paths:
        raise PackageRefused(package, describe_excess(len(paths), "paths", limits))
    if max(map(len, paths), default=0) > LONGEST_PATH:
        longest = max(paths, key=len)
        raise PackageRefused(package, f"it lists a path of {len(longest)} characters, {longest[:60]!r}...")
    text = sum(map(len, paths))
    if text > limits.text:
        raise PackageRefused(package, f"its paths have {text} characters; at most {limits.text} are allowed")


def check_paths(package: str, paths: Sequence[str]) -> None:
    """Raises PackageRefused for a path that leaves the prefix, or that an OCI layer takes for a whiteout."""
    joined = "/" + "/\n/".join(paths) + "/"
    suspicious = ("/../", "/./", "//", "/.wh.", "\0")
    if not any(part in joined for part in suspicious) and joined.count("\n") == max(len(paths) - 1, 0):
        return
    for path in paths:
        if "\n" in path or any(part in f"/{path}/" for part in suspicious):
            raise PackageRefused(package, f"it lists the path {path!r}, which cannot be installed under a prefix")


def check_reserved(package: str, targets: Sequence[str], directories: Sequence[str]) -> None:
    """Raises PackageRefused for a path that condery itself writes into every environment."""
    for path in (OWN_DIRECTORY, "conda-meta", "conda-meta/history"):
        if path in targets and (path != "conda-meta" or path not in directories):
            raise PackageRefused(package, f"it has the path {path}, which belongs to the environment itself")
    if OWN_DIRECTORY in directories:
        raise PackageRefused(package, f"it has files below {OWN_DIRECTORY}/, which belongs to condery")
    if "conda-meta" in directories:
        # a directory in a record's place would be no better
        for path in (*targets, *directories):
            if path == "conda-meta/history" or _RECORD.fullmatch(path):
                raise PackageRefused(package, f"it has {path}, which belongs to the records of installed packages")


def check_way(package: str, source: str, member: Member, ways: Container[str]) -> None:
    """Raises PackageRefused for a file or link where a directory must be. `ways` are the archive's directories.

    Whoever unpacks the archive into a folder would write or read listed files through such a link.
    """
    if member.kind != DIRECTORY and source in ways:
        raise PackageRefused(package, f"{source} is a file or link in its archive, but the package has files below it")
