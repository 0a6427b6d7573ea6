"""Licences as channels write them: SPDX expressions, and what comes close.

    MIT AND (Apache-2.0 OR GPL-2.0-only WITH GCC-exception-2.0)

What is no expression is one licence with that text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

LONGEST = 1000
"""Characters of a record's licence that are looked at. Real ones have below 200."""

_PRECEDENCE = {"OR": 1, "AND": 2}
_ID = re.compile(r"[A-Za-z0-9.+-]+")
_NO_LICENSE = frozenset({"", "unknown", "none", "noassertion", "other", "custom", "see license", "unlicensed"})
_ALIASES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "mit license": "MIT",
    "psf": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "gpl-2": "GPL-2.0-only",
    "gpl-3": "GPL-3.0-only",
    "gpl2": "GPL-2.0-only",
    "gpl3": "GPL-3.0-only",
    "lgpl-2": "LGPL-2.0-only",
    "lgpl-3": "LGPL-3.0-only",
    "public domain": "LicenseRef-Public-Domain",
    "public-domain": "LicenseRef-Public-Domain",
}
_GNU = re.compile(r"([AL]?GPL-[0-9.]+)(\+)?", re.IGNORECASE)


@dataclass(frozen=True)
class License:
    """One licence of an expression; `known` if SPDX lists it or it is a LicenseRef."""

    name: str
    exception: str = ""
    known: bool = True
    exception_known: bool = True
    """Whether SPDX lists the exception, if there is one; of another nobody knows what it permits."""

    def __str__(self) -> str:
        return f"{self.name} WITH {self.exception}" if self.exception else self.name


@dataclass(frozen=True)
class Either:
    """OR: one of them is chosen."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Every:
    """AND: all of them hold."""

    parts: tuple[Expression, ...]


Expression = License | Either | Every


def parse_license(text: str | None) -> Expression | None:
    """None where no licence is said."""
    # a channel chooses the text, so that long ones are neither read nor remembered
    if text and len(text) > LONGEST:
        return License(" ".join(text[:100].split()) + "...", known=False)
    return _parse_short(text or "")


@lru_cache(maxsize=1 << 12)
def _parse_short(text: str) -> Expression | None:
    plain = " ".join(text.split())
    if plain.lower() in _NO_LICENSE:
        return None
    if plain.lower() in _ALIASES:
        return License(_ALIASES[plain.lower()])
    return _parse(plain) or License(plain, known=False)


def _parse(text: str) -> Expression | None:
    """None for what is no expression."""
    parser = _Parser()
    try:
        for token in _tokenize(text):
            parser.take(token)
        return parser.finish()
    except _NoExpression:
        return None


class _NoExpression(Exception):
    """What was read is none."""


def _tokenize(text: str) -> Iterator[License | str]:
    """Licences, each with its exception, and between them AND, OR and parentheses. Raises _NoExpression."""
    words = re.findall(r"[()]|[^\s()]+", text)
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in ("(", ")") or word.upper() in _PRECEDENCE:
            yield word.upper()
            continue
        exception = ""
        if words[position : position + 1] and words[position].upper() == "WITH":
            exception = "".join(words[position + 1 : position + 2])
            position += 2
            if not _ID.fullmatch(exception):
                raise _NoExpression
        if not _ID.fullmatch(word):
            raise _NoExpression
        yield _make_license(word, exception)


class _Parser:
    """By precedence and without recursion, since a channel chooses the text (Dijkstra's shunting yard)."""

    def __init__(self) -> None:
        self._outputs: list[Expression] = []
        self._operators: list[str] = []
        self._wants_license = True

    def take(self, token: License | str) -> None:
        if isinstance(token, License):
            self._expect(a_license=True)
            self._outputs.append(token)
            self._wants_license = False
        elif token == "(":  # noqa: S105 - a parenthesis
            self._expect(a_license=True)
            self._operators.append(token)
        elif token == ")":  # noqa: S105 - a parenthesis
            self._expect(a_license=False)
            self._join_down_to(0)
            if not self._operators:
                raise _NoExpression
            self._operators.pop()
        else:
            self._expect(a_license=False)
            self._join_down_to(_PRECEDENCE[token])
            self._operators.append(token)
            self._wants_license = True

    def finish(self) -> Expression:
        self._expect(a_license=False)
        self._join_down_to(0)
        if self._operators or len(self._outputs) != 1:
            raise _NoExpression
        return self._outputs[0]

    def _expect(self, *, a_license: bool) -> None:
        if self._wants_license != a_license:
            raise _NoExpression

    def _join_down_to(self, precedence: int) -> None:
        """Join what stands before the operators of at least this precedence, up to a parenthesis."""
        while self._operators and self._operators[-1] != "(" and _PRECEDENCE[self._operators[-1]] >= precedence:
            # a chain of one operator becomes one node, so that no tree is deep for being long
            kind: type[Every | Either] = Every if self._operators.pop() == "AND" else Either
            parts: list[Expression] = []
            for each in self._outputs[-2:]:
                parts += each.parts if isinstance(each, kind) else (each,)
            self._outputs[-2:] = [kind(tuple(parts))]


def _make_license(name: str, exception: str) -> License:
    normal = normalize_name(name)
    listed = _find_exception(exception) if exception else ""
    return License(normal, listed or exception, _is_known(normal), listed is not None)


@lru_cache(maxsize=1 << 10)
def _find_exception(name: str) -> str | None:
    """SPDX's spelling of an exception; None for one that it does not list."""
    try:
        return canonicalize_license_expression(f"MIT WITH {name}").partition(" WITH ")[2]
    except (InvalidLicenseExpression, ValueError):
        return None


def normalize_name(name: str) -> str:
    """SPDX's spelling of an identifier; GNU's old ones say `-only` and `-or-later` since."""
    name = _ALIASES.get(name.strip().lower(), name.strip())
    if match := _GNU.fullmatch(name):
        number = match[1] if "." in match[1] else f"{match[1]}.0"
        name = f"{number}-or-later" if match[2] else f"{number}-only"
    try:
        return str(canonicalize_license_expression(name))
    except (InvalidLicenseExpression, ValueError):
        return name


@lru_cache(maxsize=1 << 10)
def _is_known(name: str) -> bool:
    if not _ID.fullmatch(name):
        return False
    try:
        canonicalize_license_expression(name)
    except (InvalidLicenseExpression, ValueError):
        return False
    return True
