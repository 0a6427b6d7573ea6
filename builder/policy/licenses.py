"""Which licences packages may have: patterns of what is allowed, and of what is denied.

An OR is a choice, so one side that may be taken is enough; of an AND every side has to be. A licence with an exception
that SPDX lists is one of its own: whoever may have a licence may have it with an exception as well, while a denied one
is denied without any, unless the rule names the exception. An exception that is not listed says nothing: it makes no
denied licence another, and no licence one that is allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from builder.policy.license_expression import LONGEST, Either, Every, Expression, License, normalize_name, parse_license
from storage.glob import glob


@dataclass(frozen=True)
class LicenseRules:
    """Patterns in which `*` stands for anything. Without `allowed` every licence is that is not denied."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    take_unknown: bool = False

    def find_problem(self, text: str | None) -> str | None:
        """What is against a package with the licence `text`, as the end of a sentence; None if nothing."""
        if not self.allowed and not self.denied:
            return None
        expression = parse_license(text)
        if expression is None:
            return None if self.take_unknown else "no licence that its channel names"
        return self._find_problem(expression)

    def _find_problem(self, expression: Expression) -> str | None:
        match expression:
            case License():
                return self._judge(expression)
            case Every(parts):
                return next((found for each in parts if (found := self._find_problem(each))), None)
            case Either(parts):
                problems = [self._find_problem(each) for each in parts]
                return None if None in problems else problems[0]

    def _judge(self, license: License) -> str | None:  # noqa: A002 - the word for it
        if any(_fits(license, pattern) for pattern in self.denied):
            return f"the licence {license}, which is denied"
        if self.allowed and any(_fits(license, each, allowing=True) for each in self.allowed):
            return None
        if not license.known or not license.exception_known:
            return None if self.take_unknown else f"the licence {license}, which is not known"
        return f"the licence {license}, which is not allowed" if self.allowed else None


def _fits(license: License, pattern: str, *, allowing: bool = False) -> bool:  # noqa: A002 - the word for it
    name, separator, exception = pattern.lower().partition(" with ")
    if not glob(name.strip(), license.name.lower()):
        return False
    if separator:
        return bool(license.exception) and glob(exception.strip(), license.exception.lower())
    return not license.exception or license.exception_known == allowing


def normalize_pattern(text: str) -> str:
    """A rule's pattern in the spelling of records; raises ValueError."""
    pattern = " ".join(text.split())
    if not pattern or len(pattern) > LONGEST:
        raise ValueError(f"{text[:100]!r} is not a licence, such as GPL-3.0-only or GPL-*")
    if re.search(r"\s(and|or)\s|[()]", pattern, re.IGNORECASE):
        raise ValueError(f"{text[:100]!r} is an expression: name each licence by itself")
    name, *exception = re.split(r"\swith\s", pattern, maxsplit=1, flags=re.IGNORECASE)
    return " WITH ".join([name if "*" in name else normalize_name(name), *exception])
