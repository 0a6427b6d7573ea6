"""Selectors in comments, `- pywin32  # [win]`, as conda-build and conda-lock have them.

    or    = and {"or" and}                    and  = not {"and" not}
    not   = {"not"} compared                  compared = word [("<" | "<=" | "==" | "!=" | ">=" | ">") number]
    word  = "(" or ")" | name | number

Names are those of conda-build for platforms, and `py`, `py2k` and `py3k`. Nothing else is known, and nothing is run.
conda itself takes no notice of comments, so one in brackets that is no selector is a comment, and a warning says so.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from builder.environments.inputs.fields import join
from builder.errors import InputInvalid, InvalidImageName
from builder.names.match_spec import parse_match_spec
from storage.errors import quote
from storage.suggestions import did_you_mean, find_near

LEFT_OUT: Final = object()
"""Stands in a list for what a selector leaves out, so that the paths of what follows stay those of the file."""

LONGEST = 200
_SHOWN = 10
_KEYS = frozenset({"channels", "dependencies", "variables"})
"""What a selector may leave out, or parts of which it may."""
DEPTH = 10
"""Of parentheses."""

_FIRST = re.compile(r"\s*\[([^\[\]]+)\]")
_LAST = re.compile(r"\[([^\[\]]+)\][^\[\]]*$")
_TOKEN = re.compile(r"\s*(?:([A-Za-z_]\w*)|([0-9]{1,9})(?!\w)|(<=|>=|==|!=|[<>()]))")
_PINNED = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})(?:[.a-z+].*)?")

_SYSTEMS = ("linux", "osx", "win", "emscripten", "freebsd", "wasi", "zos")
_MACHINES = {"32": "x86", "64": "x86_64"}
_ARCHITECTURES = (
    *("x86", "x86_64", "aarch64", "arm64", "armv6l", "armv7l", "ppc64le", "riscv64", "s390x"),
    *("linux32", "linux64", "win32", "win64", "osx64", "arm"),
)
_NUMBERS = ("py", "py2k", "py3k")
NAMES = (*_SYSTEMS, "unix", *_ARCHITECTURES, *_NUMBERS)
_WORDS = frozenset({"and", "or", "not"})
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


def list_facts(platform: str) -> dict[str, bool]:
    """What conda-build's names say of a platform such as `linux-64`."""
    system, _, rest = platform.partition("-")
    machine = _MACHINES.get(rest, rest)
    true = {system, machine, f"{system}{rest}"}
    if system in ("linux", "osx", "emscripten"):
        true.add("unix")
    if rest == "64":
        true.add("x86")
    if platform.startswith("linux-arm"):
        true.add("arm")
    return {name: name in true for name in NAMES if name not in _NUMBERS}


def _read_pinned_python(text: Any) -> int | None:
    """`py` of conda-build, such as 312, if a match spec pins it: `python=3.12`."""
    if not isinstance(text, str) or not text.strip().startswith("python"):
        return None
    try:
        item = parse_match_spec(text)
    except InvalidImageName:
        return None
    for constraint in item.constraints if item.name == "python" else ():
        if constraint.operator in ("=", "==") and (match := _PINNED.fullmatch(constraint.version)):
            return int(match[1] + match[2])
    return None


def leave_out(
    document: dict[str, Any], comments: Mapping[str, Sequence[str]], platforms: Sequence[str], warnings: list[str]
) -> dict[str, Any]:
    """The document of an environment file without what the comments leave out on all `platforms`.

    `comments` are those behind each value, by its path. Raises InputInvalid.
    """
    if not comments:
        return document
    selectors = _Selectors(comments, platforms, warnings, _find_python(document, comments, platforms))
    chosen = {key: selectors.choose(value, key) if key in _KEYS else value for key, value in document.items()}
    if selectors.left_out:
        shown, more = ", ".join(selectors.left_out[:_SHOWN]), len(selectors.left_out) - _SHOWN
        warnings.append(f"left out by selectors in comments: {shown}{f' and {more} more' if more > 0 else ''}")
    return {key: value for key, value in chosen.items() if value is not LEFT_OUT}


def _find_python(
    document: Mapping[str, Any], comments: Mapping[str, Sequence[str]], platforms: Sequence[str]
) -> int | None:
    """`py`, by what is pinned on the platforms. What depends on `py` itself cannot tell."""
    selectors = _Selectors(comments, platforms, [])
    dependencies = document.get("dependencies")
    for index, entry in enumerate(dependencies if isinstance(dependencies, list) else ()):
        if (python := _read_pinned_python(entry)) is not None:
            with suppress(InputInvalid):
                if selectors.choose(entry, f"dependencies[{index}]") is not LEFT_OUT:
                    return python
    return None


@dataclass(frozen=True)
class _Selectors:
    comments: Mapping[str, Sequence[str]]
    platforms: Sequence[str]
    warnings: list[str]
    python: int | None = None
    left_out: list[str] = field(default_factory=list)

    def choose(self, value: Any, path: str) -> Any:
        """The value without what is left out: `LEFT_OUT` in its place, or in lists within it. Raises InputInvalid."""
        if not all(self._holds(comment, path) for comment in self.comments.get(path, ())):
            self.left_out.append(path)
            return LEFT_OUT
        if isinstance(value, dict):
            chosen = {key: self.choose(each, join(path, key)) for key, each in value.items()}
            found = {key: each for key, each in chosen.items() if each is not LEFT_OUT}
            return LEFT_OUT if value and not found else found
        if isinstance(value, list):
            return [self.choose(each, f"{path}[{index}]") for index, each in enumerate(value)]
        return value

    def _holds(self, comment: str, path: str) -> bool:
        """Whether a value stays, for what is said behind it."""
        first = _FIRST.match(comment)
        match = first or _LAST.search(comment)
        if match is None:
            return True
        text = match[1].strip()
        names = [name for name in re.findall(r"[A-Za-z_]\w*", text) if name not in _WORDS]
        unknown = [name for name in names if name not in NAMES]
        if unknown and first and len(unknown) < len(names):
            meant = did_you_mean(find_near(unknown[0], NAMES))
            raise InputInvalid(
                path,
                f"the selector in its comment, {quote(f'[{text}]')}, asks for {quote(unknown[0])}, which is not known "
                f"here; the names are {', '.join(NAMES)}{meant}",
            )
        if unknown or not names:
            if first:
                meant = did_you_mean(find_near(unknown[0], NAMES)) if unknown else ""
                self.warnings.append(
                    f"{path}: its comment {quote(f'[{text}]', 40)} is no selector, and is ignored{meant}"
                )
            return True
        return self._evaluate(text, path)

    def _evaluate(self, text: str, path: str) -> bool:
        shown = quote(f"[{text}]")
        if len(text) > LONGEST:
            raise InputInvalid(path, f"the selector in its comment has more than {LONGEST} characters")
        answers: dict[str, bool] = {}
        for platform in self.platforms:
            try:
                answers[platform] = _Expression(text, list_facts(platform), self.python).value()
            except ValueError as error:
                raise InputInvalid(path, f"the selector in its comment, {shown}: {error}") from None
        if len(set(answers.values())) > 1:
            some = next(platform for platform, holds in answers.items() if holds)
            raise InputInvalid(
                path,
                f"the selector in its comment, {shown}, is for {some} and not for all of {', '.join(answers)}, but all "
                "platforms of an environment ask for the same packages here; leave a platform out",
            )
        return all(answers.values())


class _Expression:
    """Evaluates one selector. Each method raises ValueError, which says what is wrong."""

    def __init__(self, text: str, facts: Mapping[str, bool], python: int | None) -> None:
        self._facts = facts
        self._python = python
        self._words: Iterator[str] = iter(_split(text))
        self._next = next(self._words)
        self._depth = 0

    def value(self) -> bool:
        value = self._or()
        if self._next:
            raise ValueError(f"{quote(self._next)} is not expected there; join names with and, or, not")
        return value

    def _take(self) -> str:
        token, self._next = self._next, next(self._words, "")
        return token

    def _or(self) -> bool:
        value = self._and()
        while self._next == "or":
            self._take()
            value = self._and() or value
        return value

    def _and(self) -> bool:
        value = self._not()
        while self._next == "and":
            self._take()
            value = self._not() and value
        return value

    def _not(self) -> bool:
        turned = False
        while self._next == "not":
            self._take()
            turned = not turned
        return self._compared() != turned

    def _compared(self) -> bool:
        word = self._take()
        if word == "(":
            return self._parentheses()
        if self._next in _COMPARE:
            compare = _COMPARE[self._take()]
            return compare(self._number(word), self._number(self._take()))
        if word in ("py2k", "py3k"):
            return (self._number("py") >= 30) == (word == "py3k")
        if word not in self._facts:
            raise ValueError(f"{quote(word)} is no name that holds or does not" if word else "it ends too early")
        return self._facts[word]

    def _parentheses(self) -> bool:
        self._depth += 1
        if self._depth > DEPTH:
            raise ValueError(f"it has more than {DEPTH} parentheses")
        value = self._or()
        if self._take() != ")":
            raise ValueError("a parenthesis is not closed")
        self._depth -= 1
        return value

    def _number(self, word: str) -> int:
        if word.isdecimal():
            return int(word)
        if word != "py":
            raise ValueError(f"{quote(word)} is no number; compare py with one, such as py>=310")
        if self._python is None:
            raise ValueError("py is known only if the file pins python; write for example python=3.12")
        return self._python


def _split(text: str) -> Iterator[str]:
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{quote(text[position:].strip()[:20])} is not understood")
        yield match[1] or match[2] or match[3]
        position = match.end()
    yield ""
