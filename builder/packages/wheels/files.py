"""The files of a wheel in one pass over its zip, each compared with the wheel's own RECORD as it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.errors import PackageRefused
from builder.packages.contents import PackageContents
from builder.packages.wheels.listing import open_wheel, refuse
from builder.packages.wheels.zip_archive import ZipError, ZipMember
from storage.errors import quote


def read_files(
    archive: Path, contents: PackageContents, limits: ArchiveLimits
) -> Iterator[tuple[int, ZipMember, Iterator[bytes]]]:
    """Yield the row, the member and the content, in pieces of up to PIECE bytes, of each file that is installed.

    A piece comes before the file is known to be what RECORD says, so nothing counts before the end. Raises
    PackageRefused.
    """
    rows = {source: index for index, source in enumerate(contents.sources)}
    with open_wheel(archive, contents.package, limits) as opened:
        for member, pieces in opened.walk():
            index = rows.pop(member.name, None)
            if index is not None:
                checked = _check(contents, index, pieces)
                yield index, member, checked
                for _ in checked:
                    pass
    for missing in rows:
        raise PackageRefused(contents.package, f"it lists {quote(missing)}, which its archive does not have")


def _check(contents: PackageContents, index: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    try:
        for piece in pieces:
            digest.update(piece)
            yield piece
    except ZipError as error:
        raise refuse(contents.package, error) from None
    listed = contents.sha256[index]
    if listed is not None and digest.hexdigest() != listed:
        raise PackageRefused(
            contents.package,
            f"{quote(contents.sources[index], 200)} has the sha256 {digest.hexdigest()}, but {listed} in its RECORD",
        )
