"""Zip files byte by byte, in which everything can be a lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.wheels.making import Wheel

_DATE = (41 << 9) | (3 << 5) | 4


@dataclass
class Entry:
    """A member. `local` and `central` replace numbers of its headers by their names in `_write_local`."""

    name: bytes
    content: bytes = b""
    data: bytes | None = None
    """What is there instead of the deflated content."""
    local: dict[str, int] = field(default_factory=dict)
    central: dict[str, int] = field(default_factory=dict)
    local_name: bytes | None = None
    local_extra: bytes = b""
    central_extra: bytes = b""
    descriptor: bytes = b""
    """What follows the data."""

    def facts(self, changes: Mapping[str, int]) -> dict[str, int]:
        compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
        deflated = compressor.compress(self.content) + compressor.flush()
        self.data = deflated if self.data is None else self.data
        facts = {"flags": 0, "method": 8, "crc": zlib.crc32(self.content), "packed": len(self.data)}
        facts |= {"size": len(self.content), "disk": 0, "attributes": 0o100644 << 16}
        if not self.name.isascii():
            facts["flags"] = 1 << 11
        return facts | dict(changes)

    def write_local(self) -> bytes:
        facts = self.facts(self.local)
        name = self.name if self.local_name is None else self.local_name
        head = struct.pack(
            "<4s2B4H3L2H", b"PK\x03\x04", 20, 0, facts["flags"], facts["method"], 0, _DATE, facts["crc"],
            facts["packed"], facts["size"], len(name), len(self.local_extra),
        )  # fmt: skip
        assert self.data is not None
        return head + name + self.local_extra + self.data + self.descriptor

    def write_central(self, offset: int) -> bytes:
        facts = self.facts(self.central)
        head = struct.pack(
            "<4s4B4H3L5H2L", b"PK\x01\x02", 20, 3, 20, 0, facts["flags"], facts["method"], 0, _DATE, facts["crc"],
            facts["packed"], facts["size"], len(self.name), len(self.central_extra), 0, facts["disk"], 0,
            facts["attributes"], facts.get("offset", offset),
        )  # fmt: skip
        return head + self.name + self.central_extra


def list_entries(wheel: Wheel) -> list[Entry]:
    return [Entry(name.encode(), member.content) for name, member in wheel.list_members().items()]


def write_zip(
    entries: Iterable[Entry],
    *,
    before: bytes = b"",
    between: bytes = b"",
    after: bytes = b"",
    comment: bytes = b"",
    more: int = 0,
    shift: int = 0,
    disk: int = 0,
) -> bytes:
    """Write a zip. `between` is between members and directory, `more` is added to the count of members."""
    content = before
    directory = b""
    count = 0
    for entry in entries:
        directory += entry.write_central(len(content))
        content += entry.write_local()
        count += 1
    content += between
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", disk, disk, count + more, count + more, len(directory), len(content) + shift,
        len(comment),
    )  # fmt: skip
    return content + directory + end + comment + after
