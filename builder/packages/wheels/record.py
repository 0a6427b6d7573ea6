"""RECORD: what a wheel says is in it, and what an installer says it installed.

A row has a path, a hash and a size. uv writes them sorted, with the rows of generated files among the wheel's own
(`crates/uv-install-wheel/src/record.rs`); the bytes here are the same.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from builder.errors import PackageRefused
from storage.errors import quote


@dataclass(frozen=True)
class Row:
    """A row of RECORD: a hexadecimal sha256 and a size in bytes, or None where it says nothing."""

    path: str
    sha256: str | None = None
    size: int | None = None


def read_record(package: str, content: bytes, most: int) -> dict[str, Row]:
    """Read a wheel's RECORD of at most `most` rows, by path. Raises PackageRefused."""
    if content.count(b"\n") > most:
        raise PackageRefused(package, f"its RECORD has more than {most} rows (max_paths)")
    rows: dict[str, Row] = {}
    try:
        for fields in csv.reader(io.StringIO(content.decode(), newline=""), strict=True):
            if not fields:
                continue
            row = _read_row(package, fields)
            if rows.setdefault(row.path, row) != row:
                raise PackageRefused(package, f"its RECORD has {quote(row.path, 80)} twice, with different hashes")
    except UnicodeDecodeError:
        raise PackageRefused(package, "its RECORD is not UTF-8") from None
    except csv.Error as error:
        raise PackageRefused(package, f"its RECORD has a row that makes no sense ({error})") from None
    return rows


def _read_row(package: str, fields: Sequence[str]) -> Row:
    if len(fields) != 3:
        raise PackageRefused(package, f"its RECORD has a row of {len(fields)} fields, not three")
    path, claim, size = fields
    if size and not (size.isascii() and size.isdecimal() and len(size) < 20):
        raise PackageRefused(package, f"its RECORD has the size {quote(size, 40)} of {quote(path, 80)}")
    return Row(path, _read_hash(package, path, claim) if claim else None, int(size) if size else None)


def _read_hash(package: str, path: str, claim: str) -> str:
    algorithm, _, text = claim.partition("=")
    if algorithm.lower() != "sha256":
        raise PackageRefused(
            package, f"its RECORD has the hash of {quote(path, 80)} by {quote(algorithm, 20)}; sha256 is expected"
        )
    try:
        digest = base64.b64decode(f"{text.rstrip('=')}=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise PackageRefused(package, f"its RECORD has the hash {quote(claim, 60)} of {quote(path, 80)}, which is none")
    return digest.hex()


def write_record(rows: Iterable[Row]) -> bytes:
    """Write rows, sorted by the bytes of their paths."""
    lines = [
        f"{_quote(row.path)},{_write_hash(row.sha256)},{'' if row.size is None else row.size}\n"
        for row in sorted(rows, key=lambda row: row.path.encode())
    ]
    return "".join(lines).encode()


def _write_hash(sha256: str | None) -> str:
    if sha256 is None:
        return ""
    return f"sha256={base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b'=').decode()}"


def _quote(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if "," in path or '"' in path else path
