"""Grants without a row: to anybody, and to every person who has signed in."""

from __future__ import annotations

from collections.abc import Iterable

from auth.binding import Binding, parse_binding
from auth.role import ADMIN
from auth.settings import AUTO, NONE, ROOT, AccessSettings


class Defaults:
    """The settings `anonymous_bindings` and `signed_in_bindings` of a server whose on-demand names begin with `root`.

    `for_this_machine` says that no other machine can reach the server.
    """

    def __init__(self, settings: AccessSettings, root: str, *, for_this_machine: bool) -> None:
        self._roles = settings.own_roles
        self._root = root
        given = settings.anonymous_bindings
        anybody = self._read(given, "setting anonymous_bindings")
        before = after = anybody
        if AUTO in given and for_this_machine:
            source = "setting anonymous_bindings: this server is for its own machine"
            before += self._read(["*=admin"], f"{source} and has no accounts")
            after += self._read(["*=viewer", f"{ROOT}/*=editor"], source)
        self._before_accounts, self._with_accounts = before, after
        self._signed_in = self._read(settings.signed_in_bindings, "setting signed_in_bindings")

    def of_anybody(self, *, has_accounts: bool) -> tuple[Binding, ...]:
        """The grants to everybody, signed in or not."""
        return self._with_accounts if has_accounts else self._before_accounts

    def of_person(self, name: str) -> tuple[Binding, ...]:
        """The further grants to the person `name` who has signed in."""
        return (*self._signed_in, Binding(f"{name}/*", ADMIN, "their own namespace"))

    def _read(self, texts: Iterable[str], source: str) -> tuple[Binding, ...]:
        given = (text.replace(ROOT, self._root) for text in texts if text not in (AUTO, NONE))
        return tuple(parse_binding(text, self._roles, source) for text in given)
