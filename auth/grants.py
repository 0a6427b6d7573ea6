"""The bindings granted to somebody, arranged so that one of a thousand is found in microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from auth.binding import EVERYTHING, Binding
from auth.pattern_index import PatternIndex
from auth.permission import Permission
from storage.glob import glob
from storage.repositories.places import Places

MOST_REMEMBERED = 512
"""Answers to keep, since a client asks about the same few entities again and again."""


class Grants:
    """The union of `bindings`. Immutable: after a change they are loaded again."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self.bindings = tuple(dict.fromkeys(bindings))
        self._index = PatternIndex([binding.pattern for binding in self.bindings])
        self._answers: dict[tuple[Permission, str], Binding | None] = {}
        self._places: dict[Permission, Places] = {}
        self._everywhere: dict[Permission, bool] = {}
        self._patterns: dict[Permission, frozenset[str]] = {}

    def find(self, permission: Permission, entity: str) -> Binding | None:
        """The first binding that grants `permission` on `entity`, or None."""
        key = (permission, entity)
        try:
            return self._answers[key]
        except KeyError:
            pass
        found = self._find(permission, entity)
        if len(self._answers) >= MOST_REMEMBERED:
            self._answers.clear()
        self._answers[key] = found
        return found

    def is_everywhere(self, permission: Permission) -> bool:
        """Whether one binding grants `permission` on every entity. Several that do so together do not count."""
        found = self._everywhere.get(permission)
        if found is None:
            found = self._everywhere[permission] = any(
                each.pattern == EVERYTHING and permission in each.role.permissions for each in self.bindings
            )
        return found

    def places(self, permission: Permission) -> Places:
        """Where all repositories are on which `permission` is granted, and perhaps others."""
        found = self._places.get(permission)
        if found is None:
            places = [each.place for each in self.bindings if permission in each.role.permissions]
            found = self._places[permission] = Places.of(
                (text for text, is_beginning in places if not is_beginning),
                (text for text, is_beginning in places if is_beginning),
            )
        return found

    def patterns(self, permission: Permission) -> frozenset[str]:
        """Permission is granted on exactly those names below namespaces that one of these matches."""
        found = self._patterns.get(permission)
        if found is None:
            bindings = (each for each in self.bindings if permission in each.role.permissions)
            found = self._patterns[permission] = frozenset(each.pattern for each in bindings)
        return found

    def reaches(self, permission: Permission, namespace: str) -> bool:
        """Whether `permission` is granted on anything in a namespace."""
        return any(permission in each.role.permissions and glob(each.namespace, namespace) for each in self.bindings)

    def matching(self, entity: str) -> Iterator[Binding]:
        """All bindings whose pattern matches `entity`, whatever they grant."""
        candidates = (self.bindings[number] for number in self._index.candidates(entity))
        return (binding for binding in candidates if binding.matches(entity))

    def _find(self, permission: Permission, entity: str) -> Binding | None:
        for number in self._index.candidates(entity):
            binding = self.bindings[number]
            if permission in binding.role.permissions and binding.matches(entity):
                return binding
        return None


NOTHING = Grants()
