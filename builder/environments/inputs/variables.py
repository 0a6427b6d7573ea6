"""The variables that a file gives an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.environments.inputs.fields import describe, join, need_mapping
from builder.errors import InputInvalid

CUDA = "CONDA_OVERRIDE_CUDA"
"""Says which CUDA the machine has (CEP 30): the virtual package `__cuda` and no variable of the environment."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,5}")
_OURS = frozenset({"PATH", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL", "CONDERY_ACTIVATED", "BASH_ENV"})
"""Activation sets these. With another value nothing of the environment would be found."""
MOST = 500
LONGEST = 32 << 10
"""Characters of a value. Linux takes 128 KiB of each variable."""
TOGETHER = 256 << 10


@dataclass(frozen=True)
class Variables:
    values: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""
    virtual_packages: tuple[tuple[str, str], ...] = ()
    document: Mapping[str, str | int] = field(default_factory=dict)
    """As written."""


def read_variables(value: Any, path: str = "variables") -> Variables:
    """Read variables; null is none. Raises InputInvalid."""
    if value is None:
        return Variables()
    document = need_mapping(value, path)
    if len(document) > MOST:
        raise InputInvalid(path, f"it has {len(document)} variables; at most {MOST} are allowed")
    texts = {name: _read_value(name, each, join(path, name)) for name, each in document.items()}
    if sum(map(len, [*texts, *texts.values()])) > TOGETHER:
        raise InputInvalid(path, f"they have more than {TOGETHER} characters together")
    cuda = texts.pop(CUDA, "")
    return Variables(tuple(sorted(texts.items())), _read_cuda(cuda, join(path, CUDA)), document)


def _read_value(name: str, value: Any, path: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputInvalid(path, "a variable's name has letters, digits and _, and starts with no digit")
    if name in _OURS:
        raise InputInvalid(path, "activation sets this variable itself, so it cannot have another value")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputInvalid(
            path, f"its value must be text or a whole number, but it is {describe(value)}; put it in quotation marks"
        )
    text = str(value)
    if len(text) > LONGEST:
        raise InputInvalid(path, f"its value has {len(text)} characters; at most {LONGEST} are allowed")
    if "\0" in text:
        raise InputInvalid(path, "its value has a NUL, which no variable can have")
    return text


def _read_cuda(version: str, path: str) -> tuple[tuple[str, str], ...]:
    """An empty version says that there is no CUDA, as it does for conda."""
    if not version.strip():
        return ()
    if not _VERSION.fullmatch(version.strip()):
        raise InputInvalid(path, "it must be a version of CUDA such as '12.4'")
    return (("__cuda", version.strip()),)
