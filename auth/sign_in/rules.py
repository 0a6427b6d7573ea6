"""Rules from the claims of a workload to a binding.

    repository == "org/app" and ref like "refs/heads/release-*" -> viewer on team/*
    "kubernetes.io".namespace == "team" -> editor on team/*

A rule is one or more conditions, joined by `and`, then `->`, a role, `on` and an entity. A condition compares a claim
with a text in double quotes (in which \\" and \\\\ stand for a quote and a backslash), with true or false, or with an
integer:

    ==      the claim is this, and of the same type
    !=      the claim is there, of the same type, and differs
    like    the claim is a text that matches the pattern, in which `*` stands for any characters
    has     the claim is a list with this in it

A dot leads into a claim that is an object; names that are not words are put in double quotes. A condition on a claim
that is not there does not hold, whatever its operator.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from auth.binding import check_case, check_pattern
from auth.role import is_role_name
from storage.errors import quote
from storage.glob import glob

MOST_CHARACTERS = 2048
MOST_CONDITIONS = 16
OPERATORS = ("==", "!=", "like", "has")
ISSUER = ("iss",)

Literal = str | int | bool

_TOKEN = re.compile(
    r'(?P<arrow>->)|(?P<operator>==|!=)|(?P<dot>\.)|(?P<string>"(?:[^"\\]|\\["\\])*")'
    r"|(?P<number>-?[0-9]{1,18}(?![0-9A-Za-z_.]))|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)"
)
_BLANK = re.compile(r"[ \t]*")
_MISSING = object()


@dataclass(frozen=True)
class Condition:
    """What a claim has to be."""

    path: tuple[str, ...]
    operator: str
    value: Literal

    def holds(self, claims: Mapping[str, Any]) -> bool:
        found = _find(claims, self.path)
        match self.operator:
            case "==":
                return _are_equal(found, self.value)
            case "!=":
                return type(found) is type(self.value) and found != self.value
            case "like":
                return isinstance(found, str) and isinstance(self.value, str) and glob(self.value, found)
            case "has":
                return isinstance(found, list) and any(_are_equal(each, self.value) for each in found)
        raise AssertionError(self.operator)


@dataclass(frozen=True)
class Rule:
    """`role` on `pattern` for workloads of which all `conditions` hold. The role need not exist."""

    conditions: tuple[Condition, ...]
    role: str
    pattern: str

    def matches(self, claims: Mapping[str, Any]) -> bool:
        return all(each.holds(claims) for each in self.conditions)

    @property
    def issuer(self) -> str | None:
        """The issuer that it names, if it does."""
        named = [each.value for each in self.conditions if each.path == ISSUER and each.operator == "=="]
        return named[0] if len(named) == 1 and isinstance(named[0], str) else None

    @cached_property
    def key(self) -> str:
        """Differs between rules that say different things; short, since it goes into tokens."""
        return hashlib.sha256(repr((self.conditions, self.role, self.pattern)).encode()).hexdigest()[:12]

    def __str__(self) -> str:
        conditions = " and ".join(map(_write_condition, self.conditions))
        return f"{conditions} -> {self.role} on {self.pattern}"


def parse_rule(text: str) -> Rule:
    """Read a rule. Raises ValueError, which says what is wrong and where."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"rule {quote(text)} is longer than {MOST_CHARACTERS} characters")
    return _Parser(text).parse()


class _Parser:
    """Reads a text from its beginning; `_position` is where what was not read yet begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._skip_blanks()

    def parse(self) -> Rule:
        conditions = [self._read_condition()]
        while (kind := self._peek()) == ("word", "and"):
            self._take()
            conditions.append(self._read_condition())
            if len(conditions) > MOST_CONDITIONS:
                self._refuse(f"more than {MOST_CONDITIONS} conditions")
        if kind[0] != "arrow":
            self._refuse("expected `and` or `->`")
        self._take()
        role = self._read_role()
        return Rule(tuple(conditions), role, self._read_entity())

    def _read_condition(self) -> Condition:
        path = [self._read_step()]
        while self._peek()[0] == "dot":
            self._take()
            path.append(self._read_step())
        if self._peek()[1] not in OPERATORS:
            self._refuse(f"expected one of {' '.join(OPERATORS)}")
        operator = self._take()
        kind, text = self._peek()
        if kind == "string":
            value: Literal = _unquote(text)
        elif operator != "like" and kind == "number":
            value = int(text)
        elif operator != "like" and text in ("true", "false"):
            value = text == "true"
        else:
            self._refuse('expected a text in double quotes, such as "org/app"')
        self._take()
        return Condition(tuple(path), operator, value)

    def _read_step(self) -> str:
        kind, text = self._peek()
        if kind not in ("word", "string"):
            self._refuse('expected the name of a claim, such as repository, or "kubernetes.io" in double quotes')
        self._take()
        return _unquote(text) if kind == "string" else text

    def _read_role(self) -> str:
        kind, text = self._peek()
        if kind != "word" or not is_role_name(text):
            self._refuse("expected a role, such as viewer")
        self._take()
        if self._peek()[1] != "on":
            self._refuse("expected `on` and an entity, such as on team/*")
        self._take()
        return text

    def _read_entity(self) -> str:
        try:
            return check_case(check_pattern(self._text[self._position :].strip()))
        except ValueError as error:
            self._refuse(str(error))

    def _peek(self) -> tuple[str, str]:
        """Kind and text of what comes next; empty at the end of the text."""
        if self._position == len(self._text):
            return "", ""
        found = _TOKEN.match(self._text, self._position)
        if found is None:
            opened = self._text[self._position] == '"'
            self._refuse(
                "a text without its closing quote (if it has a comma, write the list of rules as a JSON array)"
                if opened
                else f"{self._text[self._position]!r} means nothing here"
            )
        assert found.lastgroup is not None, "every alternative has a name"
        return found.lastgroup, found[0]

    def _take(self) -> str:
        text = self._peek()[1]
        self._position += len(text)
        self._skip_blanks()
        return text

    def _skip_blanks(self) -> None:
        blank = _BLANK.match(self._text, self._position)
        assert blank is not None, "it matches nothing, too"
        self._position = blank.end()

    def _refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"rule {quote(self._text)}, character {self._position + 1}: {reason}")


def _find(claims: Mapping[str, Any], path: tuple[str, ...]) -> object:
    found: object = claims
    for step in path:
        if not isinstance(found, Mapping) or step not in found:
            return _MISSING
        found = found[step]
    return found


def _are_equal(found: object, value: Literal) -> bool:
    # True == 1 in Python
    return type(found) is type(value) and found == value


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_condition(condition: Condition) -> str:
    path = ".".join(each if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", each) else _quote(each) for each in condition.path)
    value = condition.value
    shown = str(value).lower() if isinstance(value, bool) else _quote(value) if isinstance(value, str) else str(value)
    return f"{path} {condition.operator} {shown}"
