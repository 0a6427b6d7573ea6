"""The grammar of names of accounts, groups and namespaces, and the names that the server itself uses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from auth.errors import NameUnfit
from storage.oci import MIRROR_ROOT
from storage.suggestions import find_near

MOST_CHARACTERS = 64

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")

_OF_THE_SERVER = frozenset(
    {MIRROR_ROOT, "anonymous", "api", "condery", "files", "local", "me", "operator", "robot", "token", "v2", "workload"}
)
_SHARED_NAMESPACES = frozenset({"default", "filesystem"})
"""Namespaces that belong to nobody and exist from the start (conda-store's)."""

Named = Literal["an account", "a group", "a namespace"]

LOGIN_NAME = "condery login at "
"""How the names of the access tokens begin that `condery login` makes; the name of the machine follows."""


def is_name(text: str) -> bool:
    """Whether the characters of a name are allowed for an account, a group or a namespace."""
    return len(text) <= MOST_CHARACTERS and NAME.fullmatch(text) is not None


class Names:
    """The rules for names on a server whose on-demand names begin with `root`.

    `granted` are the patterns on which its settings grant something to anybody.
    """

    def __init__(self, root: str, granted: Iterable[str] = ()) -> None:
        self._root = root
        self._granted = frozenset(each.partition("/")[0] for each in granted)

    def check(self, what: Named, name: str) -> str:
        """Check a name and return it. Raises NameUnfit.

        A person is admin of the namespace of their name, so a name that cannot be one's own namespace cannot be an
        account's.
        """
        if not is_name(name):
            raise NameUnfit(what, name, _find_fault(name))
        reserved = _OF_THE_SERVER | ({self._root} if what == "a namespace" else {self._root, *_SHARED_NAMESPACES})
        if name in reserved:
            raise NameUnfit(what, name, "the server uses it itself; choose another one")
        return name

    def is_granted(self, namespace: str) -> bool:
        """Whether the settings grant something in a namespace, by its name."""
        return namespace in self._granted

    def is_of_server(self, namespace: str) -> bool:
        """Whether the server itself fills a namespace: with on-demand content, or with copies of other registries'."""
        return namespace in (self._root, MIRROR_ROOT)


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Similar names, one of which may be meant."""
    return find_near(name.lower(), names)


def _find_fault(name: str) -> str:
    rule = f"names are parts of a-z and 0-9, joined by single '.', '_' or '-', {MOST_CHARACTERS} characters at most"
    if len(name) > MOST_CHARACTERS:
        return f"it is longer than {MOST_CHARACTERS} characters"
    odd = next((each for each in name if not (each.isascii() and each.isprintable())), None)
    if odd is not None:
        # it may look exactly like an allowed one
        return f"it holds U+{ord(odd):04X} {unicodedata.name(odd, '')}".rstrip() + f"; {rule}"
    return f"did you mean {name.lower()!r}?" if NAME.fullmatch(name.lower()) else rule
