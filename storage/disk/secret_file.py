"""Secrets that administrators put into files."""

from __future__ import annotations

from pathlib import Path
from typing import IO

MOST_BYTES = 32 << 10
"""More than any secret has, such as 4096 characters of four bytes each. What is longer is refused and never cut: a
part of a secret would be taken without a word, and fail only where it is used."""


def read_first_line(path: Path) -> str:
    """The first line of a file, without its end. Raises ValueError, which says why it cannot be read."""
    return read_lines(path)[0]


def read_lines(path: Path) -> list[str]:
    """All lines of a file, without their ends; there is always one. Raises ValueError, as above."""
    try:
        with path.open("rb") as file:
            text = read_all(file).decode()
    except OSError as error:
        raise ValueError(error.strerror or "it cannot be read") from None
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    return [line.rstrip("\r") for line in text.split("\n")]


def read_all(file: IO[bytes]) -> bytes:
    """The rest of an open file. Raises ValueError if it is longer than a secret can be."""
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes; give a file with nothing but the secret")
    return data
