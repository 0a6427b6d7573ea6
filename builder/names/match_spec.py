"""Parses conda match specs as people type them (CEP 29) into `PackageItem`s: `scipy>1.0`, `bioconda::samtools
1.2.*`."""

from __future__ import annotations

import re

from builder.errors import InvalidImageName
from builder.names.spec import Constraint, PackageItem

_PIECES = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
_VERSION = re.compile(rf"(?:[0-9]+!)?{_PIECES}(?:\+{_PIECES})?")
_LONG_NUMBER = re.compile(r"[0-9]{20,4000}")
_PACKAGE = re.compile(r"_?[a-z0-9]+(?:(?:[._]|-+)[a-z0-9]+)*")
"""A package's name, but not a virtual package's, which starts with two underscores."""
_BUILD = re.compile(r"[a-z0-9_.+*-]+", re.IGNORECASE)
_EXPRESSION = re.compile(r"\^((?:[a-z0-9_]|\\[.+]|\.\*)+)\$", re.IGNORECASE)
"""The regular expressions that say no more than a pattern can. `_` and letters stand for themselves."""
_CHANNEL = re.compile(r"(?:https?|file|oci|s3)://[A-Za-z0-9._~%:/-]+|[A-Za-z0-9][A-Za-z0-9._/-]*")

_SPEC = re.compile(
    r"(?:(?P<channel>[^\s\[\]]+)::)?"
    r"(?P<name>[^\s=<>!~\[\]:]+)"
    r"(?P<rest>[^\[\]]*)"
    r"(?:\[(?P<brackets>[^\[\]]*)\])?"
)
_CONSTRAINT = re.compile(r"(?P<operator>[<>=!~]*)(?P<version>[^<>=!~][^<>=~]*)")
_BRACKET = re.compile(r"""\s*(?P<key>[a-z0-9_]+)\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^,"']*?)\s*(?:,|$)""")
_LONGEST = 1000
"""Characters of one match spec: rattler's time to parse tens of thousands of bounds grows with their square."""
_MOST_ALTERNATIVES = 50
_SHOWN = 60
_EXTRAS = re.compile(r"(?:[^\s\[\]]+::)?[^\s=<>!~\[\]:]+\[[A-Za-z0-9_., -]*\].*")
_ANY = {"", "*", "=*", "==*"}
_OPERATORS = {">", ">=", "<", "<=", "==", "!=", "=", "~="}


def parse_match_spec(text: str) -> PackageItem:
    """Parse one match spec: name, version, build and channel, plain or in brackets.

    `numpy=1.26`, `numpy 1.26.*` and `numpy=1.26.*` mean 1.26 and everything that starts with it; `numpy 1.26` and
    `numpy==1.26` mean exactly that version. A build is the whole build string, with `*` for anything: `py311_0`,
    `*cuda*`, `py311_c*_0`. `>=1,<2|>=3` is a choice between two ranges. Raises InvalidImageName, also for what condery
    does not support: parentheses, extras, and regular expressions, but those for builds that a pattern can say as well.
    """
    if len(text) > _LONGEST:
        shown = text[:_SHOWN] + "..."
        raise InvalidImageName(shown, f"it has {len(text)} characters; at most {_LONGEST} are allowed")
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        if _EXTRAS.fullmatch(text.strip()):
            raise InvalidImageName(
                text, "conda packages have no extras in brackets; leave them out, and name the packages that they need"
            )
        raise InvalidImageName(text, "not a conda match spec, such as 'numpy>=1.2,<2'")
    brackets = _parse_brackets(text, match["brackets"] or "")
    version, build = _split_version(text, match["rest"])
    name = match["name"].lower()
    if name.startswith("__"):
        raise InvalidImageName(text, "virtual packages cannot be requested; cuda.12.4 declares what the machine has")
    if name[0] in "^*" or name[-1] in "*$":
        raise InvalidImageName(text, "a package is asked for by its whole name, without * and regular expressions")
    if not _PACKAGE.fullmatch(name):
        raise InvalidImageName(text, f"{name!r} is not a package name")
    channel = match["channel"] or brackets.get("channel")
    plain, choice = _parse_versions(text, version, brackets.get("version", ""))
    return PackageItem(
        name,
        check_channel(text, channel) if channel else None,
        tuple(sorted(plain)),
        _parse_build(text, build or brackets.get("build")),
        choice,
    )


def is_version(text: str) -> bool:
    """Whether `text` is a conda version: epoch, pieces, local part, as in `1!2.0.rc1+cu118`.

    Dots separate pieces, and so do underscores or dashes but not both, as in rattler.
    """
    return _VERSION.fullmatch(text) is not None and not ("_" in text and "-" in text) and not has_large_number(text)


def has_large_number(version: str) -> bool:
    """Whether a number in `version` is larger than rattler reads: it has 64 bits."""
    return any(int(number) >> 64 for number in _LONG_NUMBER.findall(version))


def check_channel(text: str, channel: str) -> str:
    """Check `channel`, a name or a URL without credentials. Raises InvalidImageName about `text` if it is neither."""
    if "@" in channel:
        raise InvalidImageName(
            text.rpartition("@")[2],
            "a channel's URL must not hold credentials; the server's settings name a file for them",
        )
    if not _CHANNEL.fullmatch(channel):
        raise InvalidImageName(text, f"{channel!r} is not a channel name or URL")
    return channel


def _parse_brackets(text: str, inside: str) -> dict[str, str]:
    """Parse the `key=value` pairs between the brackets."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(inside):
        match = _BRACKET.match(inside, position)
        if match is None or match["key"] not in {"version", "build", "channel"}:
            raise InvalidImageName(text, "only version, build and channel can be in brackets")
        pairs[match["key"]] = match["value"].strip("\"'")
        position = match.end()
    return pairs


def _split_version(text: str, rest: str) -> tuple[str, str | None]:
    """Split what follows the name: `=1.2=py_0`, ` >=1.2, <2`, ` 1.2 py_0`."""
    rest = re.sub(r"\s*([,|])\s*", r"\1", rest.strip())
    rest = re.sub(r"([<>=!~])\s+", r"\1", rest)
    pinned = re.fullmatch(r"(\S*[^<>=!~\s,])=([^=<>!~\s,]+)", rest)
    if pinned:
        # with a build, a single = means the exact version
        return re.sub(r"^=(?=[^=,|]+$)", "==", pinned[1]), pinned[2]
    words = rest.split()
    if len(words) > 2:
        raise InvalidImageName(text, "it has more than a name, a version and a build")
    return (words[0] if words else ""), (words[1] if len(words) == 2 else None)


_Groups = tuple[tuple[Constraint, ...], ...]


def _parse_versions(text: str, *versions: str) -> tuple[set[Constraint], _Groups]:
    """Parse versions that must all hold: what each demands, and the alternatives of the one that has any."""
    plain: set[Constraint] = set()
    choice: _Groups = ()
    for version in versions:
        if "^" in version or "$" in version:
            raise InvalidImageName(
                text,
                "versions cannot be regular expressions, which the solver does not have; write ranges such as "
                ">=1.2,<1.4 or 1.2.*|1.4.*",
            )
        if "|" not in version:
            plain |= _parse_constraints(text, version)
            continue
        if choice:
            raise InvalidImageName(text, "it has two choices of versions; write one")
        parts = version.split("|")
        if len(parts) > _MOST_ALTERNATIVES:
            raise InvalidImageName(text, f"it has {len(parts)} alternatives; at most {_MOST_ALTERNATIVES} are allowed")
        if not all(part.strip() for part in parts):
            raise InvalidImageName(text, "an alternative beside | is empty")
        groups = {tuple(sorted(_parse_constraints(text, part))) for part in parts}
        # an alternative that every version fulfils leaves no choice to make
        choice = () if () in groups else tuple(sorted(groups))
    if len(choice) == 1:
        return plain | set(choice[0]), ()
    return plain, choice


def _parse_constraints(text: str, version: str) -> set[Constraint]:
    if "(" in version or ")" in version:
        raise InvalidImageName(text, "parentheses are not supported; write each alternative whole, as in >=1,<2|>=3,<4")
    return {_parse_constraint(text, part.strip()) for part in version.split(",") if part.strip() not in _ANY}


def _parse_constraint(text: str, part: str) -> Constraint:
    match = _CONSTRAINT.fullmatch(part)
    operator, version = (match["operator"] or "==", match["version"].strip().lower()) if match else ("", part)
    if operator not in _OPERATORS:
        raise InvalidImageName(text, f"{part!r} is not an operator and a version")
    starless = re.sub(r"\.?\*$", "", version)
    if "*" in starless:
        raise InvalidImageName(
            text, f"{version!r} has a * that is not at its end, which the solver does not have; write a range"
        )
    if has_large_number(version):
        raise InvalidImageName(text, f"a number in the version {version[:_SHOWN]!r} has more than 64 bits")
    if not is_version(starless):
        raise InvalidImageName(text, f"{version!r} is not a version")
    if starless == version:
        return Constraint(operator, version)
    if operator in {"==", "="}:
        return Constraint("=", starless)
    if operator == "!=":
        return Constraint(operator, f"{starless}.*")
    return Constraint(operator, starless)


def _parse_build(text: str, build: str | None) -> str | None:
    """Return the pattern in its canonical form, with single `*`s; None if every build matches."""
    if build is None:
        return None
    if build.startswith("^") or build.endswith("$"):
        build = _read_regular_expression(text, build)
    if not _BUILD.fullmatch(build):
        raise InvalidImageName(
            text, f"{build!r} is not a build: it may have letters, digits and _ . + -, and * matches anything"
        )
    pattern = re.sub(r"\*+", "*", build)
    return None if pattern == "*" else pattern


def _read_regular_expression(text: str, build: str) -> str:
    """The pattern that means the same as a regular expression, where there is one. No expression is ever run."""
    match = _EXPRESSION.fullmatch(build)
    if match is None:
        raise InvalidImageName(
            text,
            f"of regular expressions for builds, only ^, $ and .* between letters and digits are known, and {build!r} "
            "has more; write a pattern such as py311_*",
        )
    return re.sub(r"\\(.)", r"\1", match[1].replace(".*", "*"))
