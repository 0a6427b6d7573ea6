"""Patterns in which `*` stands for any characters, none included, and every other character for itself."""

from __future__ import annotations


def glob(pattern: str, text: str) -> bool:
    """Whether `pattern`, in which `*` stands for any characters, matches `text`. Takes linear time for any pattern."""
    if "*" not in pattern:
        return pattern == text
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
