"""Which paths a package may have: how many, how long, where they lead, and what is not for packages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence

from builder.archives.archive import Limits
from builder.archives.tar import DIRECTORY
from builder.archives.tar_reader import Member
from builder.errors import PackageRefused

OWN_DIRECTORY = ".condery"
"""The folder under the prefix that no package may have."""

_RECORD = re.compile(r"conda-meta/([^/]+\.json|conda-lock\.yml|explicit\.txt)", re.DOTALL)

LONGEST_PATH = 1024
"""Characters of a path under the prefix. Linux takes 4096 bytes, the prefix and whatever it is mounted at included."""


def list_directories(package: str, targets: Sequence[str], kinds: str, scripts: bool, limits: Limits) -> list[str]:
    """The directories that `targets` need, parents first; raises PackageRefused where one is also a file or link.

    That is where a path would pass through a symbolic link of its own package.
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
        raise PackageRefused(package, f"{min(both)} is a file or link in it, but has files below it")
    return sorted(found)


def describe_excess(count: int, what: str, limits: Limits) -> str:
    return f"it has {count} {what}, where at most {limits.paths} are allowed (max_paths)"


def check_amount(package: str, paths: Sequence[str], limits: Limits) -> None:
    """Raises PackageRefused for paths that are too many, or too long."""
    if len(paths) > limits.paths:
        raise PackageRefused(package, describe_excess(len(paths), "paths", limits))
    if max(map(len, paths), default=0) > LONGEST_PATH:
        longest = max(paths, key=len)
        raise PackageRefused(package, f"it lists a path of {len(longest)} characters, {longest[:60]!r}...")
    text = sum(map(len, paths))
    if text > limits.text:
        raise PackageRefused(package, f"its paths have {text} characters, where at most {limits.text} are allowed")


def check_paths(package: str, paths: Sequence[str]) -> None:
    """Raises PackageRefused for a path that leads out of the prefix, or that an OCI layer takes for a whiteout."""
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
        # a directory where a record has to be would be no better
        for path in (*targets, *directories):
            if path == "conda-meta/history" or _RECORD.fullmatch(path):
                raise PackageRefused(
                    package, f"it has {path}, and what is installed is recorded there, not by a package"
                )


def check_way(package: str, source: str, member: Member, ways: Container[str]) -> None:
    """Raises PackageRefused for a file or link where a directory has to be; `ways` are the directories of an archive.

    What is listed would be written or read through such a link by whoever unpacks the archive into a folder.
    """
    if member.kind != DIRECTORY and source in ways:
        raise PackageRefused(package, f"{source} is a file or link in its archive, but has files below it")
