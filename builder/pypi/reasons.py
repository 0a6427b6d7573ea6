"""Why there is no solution: what uv says, and what it was not shown and why, in words for who typed the name."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.errors import BuilderError, RequirementRefused, UnknownPackage
from builder.pypi.gateway import Session
from builder.pypi.provided import Distribution
from builder.pypi.view import SOURCES, Shown
from storage.suggestions import find_near
from storage.text import printable_line

FindConda = Callable[[str], Awaitable[bool]]
"""Whether a channel of the spec has a conda package of this name."""

_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HEAD = re.compile(r"^(?:error|warning):[^\n]*\n\s*(?:cause:|×|╰─▶)?\s*", re.MULTILINE)
_TAIL = re.compile(r",? (?:and|so)? ?we can conclude that (?:your )?requirements are unsatisfiable\.?")
_MOST_LOOKED_AT = 10
_MOST_WORDS = 600


@dataclass(frozen=True)
class Failure:
    """What uv said (`words`) of `requirements`, and what it knew."""

    words: str
    requirements: Sequence[str]
    session: Session
    provided: Mapping[str, Distribution]
    python: str
    platform: str
    popular: Iterable[str]
    """Names of packages that many people use."""


async def explain(failure: Failure, find_conda: FindConda) -> BuilderError:
    """Return the error to raise."""
    if isinstance(failure.session.failure, BuilderError):
        return failure.session.failure
    mentioned = await _find_mentioned(failure)
    for name, shown in mentioned.items():
        if shown is None:
            return await _explain_unknown(failure, name, find_conda)
    for name, shown in mentioned.items():
        if shown is not None and not shown.versions:
            return RequirementRefused(name, await _explain_empty(name, shown, find_conda))
    facts = [
        f"{each.name} {each.version} comes with the conda package {each.package}, which must stay"
        for name in _list_words(failure.words)
        if (each := failure.provided.get(name))
    ]
    facts += [
        f"some wheels of {name} {reason}"
        for name, shown in mentioned.items()
        if shown is not None
        for reason in list(shown.dropped)[:2]
        if reason != SOURCES
    ]
    return explain_briefly(failure, facts[:4])


def explain_briefly(failure: Failure, facts: Sequence[str] = ()) -> BuilderError:
    """What uv says, and `facts`."""
    where = f"with python {failure.python} on {failure.platform}"
    told = "".join(f"; {each}" for each in facts)
    return RequirementRefused(_name(failure), f"there is no solution {where}: {_clean(failure.words)}{told}")


async def _find_mentioned(failure: Failure) -> dict[str, Shown | None]:
    """What uv was shown of the packages that its words name; what it remembered of earlier runs is looked up."""
    roots = {canonicalize_name(Requirement(each).name) for each in failure.requirements}
    session = failure.session
    names = [each for each in _list_words(failure.words) if each not in failure.provided]
    known = [each for each in names if each in roots or each in session.shown]
    found: dict[str, Shown | None] = {}
    for name in known[:_MOST_LOOKED_AT]:
        found[name] = await session.look(name)
    return found


def _list_words(text: str) -> list[str]:
    return list(dict.fromkeys(canonicalize_name(each) for each in _WORD.findall(text)))


async def _explain_unknown(failure: Failure, name: str, find_conda: FindConda) -> BuilderError:
    indexes = failure.session.view.indexes
    if await find_conda(name):
        return RequirementRefused(
            name, f"{', '.join(indexes)} has no such package, but there is a conda package {name}: ask for that instead"
        )
    near = [each for each in find_near(name, failure.popular, most=3) if each != name]
    close = [each for each in near[:3] if await failure.session.look(canonicalize_name(each))]
    return UnknownPackage(name, indexes, close)


async def _explain_empty(name: str, shown: Shown, find_conda: FindConda) -> str:
    told = ", ".join(f"{count} {reason}" for reason, count in list(shown.dropped.items())[:3]) or "there are none"
    if set(shown.dropped) == {SOURCES}:
        advice = f"ask for the conda package {name} instead" if await find_conda(name) else "ask for another package"
        return f"the index has no wheels of it, only source code, which is not built here; {advice}"
    return f"none of its files can be taken: {told}; ask for another package"


def _name(failure: Failure) -> str:
    roots = [canonicalize_name(Requirement(each).name) for each in failure.requirements]
    words = _list_words(failure.words)
    named = [each for each in roots if each in words]
    return ", ".join(dict.fromkeys(named[:3])) or ", ".join(roots[:3])


def _clean(words: str) -> str:
    """What uv says without its frame, on one line."""
    text = _TAIL.sub("", _HEAD.sub("", words.strip()))
    text = " ".join(printable_line(" ".join(text.split())).split())
    return text if len(text) <= _MOST_WORDS else text[:_MOST_WORDS] + "..."
