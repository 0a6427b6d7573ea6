"""The `pip:` part of an environment file: requirements of PyPI packages, parsed and kept."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from builder.environments.inputs.comments import LEFT_OUT
from builder.environments.inputs.fields import need_list, need_text
from builder.errors import InputInvalid
from storage.errors import quote
from storage.text import redact

OPTIONS = ("--index-url", "--extra-index-url", "--trusted-host")
_SHORT = {"-i": "--index-url"}
_EDITABLE = ("-e", "--editable")
_VCS = re.compile(r"(?:git|hg|svn|bzr)(?:\+|://|@)", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?")
_PATH = re.compile(r"(?:\.{0,2}/|~|\.$|\.\[|file:)")
MOST = 2000


@dataclass(frozen=True)
class PipPart:
    requirements: tuple[str, ...] = ()
    """PEP 508, in canonical form."""
    options: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()
    """All of it in canonical form and in order."""

    def list_indexes(self, defaults: tuple[str, ...]) -> tuple[str, ...]:
        """The indexes in the order in which they are asked, as uv does it; none if the part names none.

        The first that has a name wins, and extra ones come first: so nobody shadows a private name on a public index.
        """
        extra = [value for name, value in self.options if name == "--extra-index-url"]
        main = [value for name, value in self.options if name == "--index-url"]
        return tuple(dict.fromkeys([*extra, *(main[-1:] or defaults)])) if extra or main else ()


def read_pip_part(value: Any, path: str) -> PipPart:
    """Read a list of lines as pip reads them, null being none. Raises InputInvalid."""
    if value is None:
        return PipPart()
    requirements: list[str] = []
    options: list[tuple[str, str]] = []
    lines: list[str] = []
    for index, entry in enumerate(need_list(value, path, MOST)):
        if entry is LEFT_OUT:
            continue
        place = f"{path}[{index}]"
        line = need_text(entry, place).strip()
        if line.startswith("-"):
            option = _read_option(line, place)
            options.append(option)
            lines.append(" ".join(option))
        else:
            requirement = read_requirement(re.split(r"\s#", line)[0].strip(), place)
            requirements.append(requirement)
            lines.append(requirement)
    return PipPart(tuple(requirements), tuple(options), tuple(lines))


def read_requirement(text: str, path: str) -> str:
    """Return a requirement (PEP 508) in canonical form. Raises InputInvalid."""
    if _VCS.match(text):
        raise InputInvalid(
            path, f"{quote(redact(text))} is a repository of source code; name a package that PyPI has, or its wheel"
        )
    if _PATH.match(text):
        raise InputInvalid(path, f"{quote(text)} is a path of your machine, where this server cannot read it")
    if re.match(r"https?://", text):
        raise InputInvalid(path, f"{quote(redact(text))} has no name; write NAME @ URL")
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputInvalid(path, f"{quote(text)} is not a requirement such as 'requests>=2': {reason}") from None
    if requirement.url:
        check_address(requirement.url, path)
        raise InputInvalid(
            path, f"{quote(text)} is an address; ask for a version of an index, which may be your own (--index-url)"
        )
    return str(requirement)


def check_address(url: str, path: str) -> None:
    if _VCS.match(url):
        raise InputInvalid(
            path, f"{quote(redact(url))} is a repository of source code; name a package that PyPI has, or its wheel"
        )
    parts = _split(url, path)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputInvalid(path, f"{quote(redact(url))} is not an http:// or https:// address")
    if "@" in parts.netloc:
        raise InputInvalid(path, f"{quote(redact(url))} has credentials, which would be stored; leave them out")


def _split(url: str, path: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        raise InputInvalid(path, f"{quote(redact(url))} is not an address") from None


def _read_option(line: str, path: str) -> tuple[str, str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        raise InputInvalid(path, "a quotation mark in it is not closed") from None
    name, equals, rest = words[0].partition("=")
    if name in _EDITABLE or (name.startswith("-e") and not name.startswith("--")):
        raise InputInvalid(path, f"{quote(line)} installs from source code, which is not supported; name a package")
    name = _SHORT.get(name, name)
    if name not in OPTIONS:
        raise InputInvalid(path, f"the option {quote(name)} of pip is not supported; only {', '.join(OPTIONS)} are")
    values = [*([rest] if equals else []), *words[1:]]
    if len(values) != 1:
        raise InputInvalid(path, f"{name} takes one value")
    (value,) = values
    if name == "--trusted-host":
        if not _HOST.fullmatch(value):
            raise InputInvalid(path, f"{quote(value)} is not a host, with or without a port")
    else:
        check_address(value, path)
    return name, value
