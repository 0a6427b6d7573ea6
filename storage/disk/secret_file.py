"""Secrets that administrators put into files."""

from __future__ import annotations

from pathlib import Path

MOST_BYTES = 4096


def read_first_line(path: Path) -> str:
    """The first line of a file, without its end. Raises ValueError, which says why it cannot be read."""
    return read_lines(path)[0]


def read_lines(path: Path) -> list[str]:
    """All lines of a file, without their ends; there is always one. Raises ValueError, as above."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode()
    except OSError as error:
        raise ValueError(error.strerror or "it cannot be read") from None
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    return [line.rstrip("\r") for line in text.split("\n")]
