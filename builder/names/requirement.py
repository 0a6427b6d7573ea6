"""Requirements of PyPI packages (PEP 508) in canonical form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from builder.names.spec import Constraint

PYPI = "pypi"
"""What stands for a channel where a package of PyPI is meant: `pypi__requests` in image names, `pypi::requests>=2`
where match specs are typed."""
MATCH_SPEC = f"{PYPI}::"

_LIKE = "="
"""The operator of match specs for a version and all that start with it; PEP 440 writes `==1.2.*`."""


def canonicalize(text: str) -> str:
    """Return the requirement with its name normalized (PEP 503), extras and versions sorted. Raises
    InvalidRequirement."""
    return str(_parse(text))


def read_name(requirement: str) -> str:
    """The normalized name of the distribution. Raises InvalidRequirement."""
    return _parse(requirement).name


def merge_requirements(texts: Iterable[str]) -> tuple[str, ...]:
    """Canonical requirements, sorted: those of one distribution under one marker become one.

    Raises InvalidRequirement.
    """
    merged: dict[tuple[str, str, str], Requirement] = {}
    for requirement in map(_parse, texts):
        key = (requirement.name, str(requirement.marker or ""), requirement.url or "")
        known = merged.setdefault(key, requirement)
        known.extras |= requirement.extras
        known.specifier &= requirement.specifier
    return tuple(str(requirement) for _, requirement in sorted(merged.items()))


def make_requirement(name: str, constraints: Sequence[Constraint]) -> str:
    """A requirement with the operators of match specs. Raises InvalidRequirement for a version that PEP 440 lacks."""
    try:
        versions = SpecifierSet(",".join(map(_write, constraints)))
    except InvalidSpecifier as error:
        raise InvalidRequirement(str(error)) from None
    return canonicalize(f"{name}{versions}")


def read_constraints(requirement: str) -> tuple[Constraint, ...] | None:
    """The versions with the operators of match specs; None if it has extras, a marker or a URL, which need more."""
    parsed = _parse(requirement)
    if parsed.extras or parsed.marker or parsed.url:
        return None
    return tuple(
        Constraint(_LIKE, each.version.removesuffix(".*"))
        if each.operator == "==" and each.version.endswith(".*")
        else Constraint(each.operator, each.version)
        for each in sorted(parsed.specifier, key=str)
    )


def _parse(text: str) -> Requirement:
    requirement = Requirement(text)
    requirement.name = canonicalize_name(requirement.name)
    requirement.extras = {canonicalize_name(extra) for extra in requirement.extras}
    return requirement


def _write(constraint: Constraint) -> str:
    if constraint.operator == _LIKE:
        return f"=={constraint.version}.*"
    return str(constraint)
