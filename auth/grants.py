"""The bindings granted to somebody, arranged so that one of a thousand is found in microseconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from auth.binding import Binding
from auth.permission import Permission

MOST_REMEMBERED = 4096
"""Answers to keep, since a client asks about the same few entities again and again."""


class Grants:
    """The union of `bindings`. Immutable: after a change they are loaded again."""

    def __init__(self, bindings: Iterable[Binding] = ()) -> None:
        self.bindings = tuple(dict.fromkeys(bindings))
        self._of_namespace: dict[str, list[Binding]] = defaultdict(list)
        self._of_any: list[Binding] = []
        for binding in self.bindings:
            place = self._of_any if "*" in binding.namespace else self._of_namespace[binding.namespace]
            place.append(binding)
        self._answers: dict[tuple[Permission, str], Binding | None] = {}

    def find(self, permission: Permission, entity: str) -> Binding | None:
        """The first binding that grants `permission` on `entity`, or None."""
        key = (permission, entity)
        try:
            return self._answers[key]
        except KeyError:
            pass
        found = next((each for each in self.matching(entity) if permission in each.role.permissions), None)
        if len(self._answers) >= MOST_REMEMBERED:
            self._answers.clear()
        self._answers[key] = found
        return found

    def matching(self, entity: str) -> Iterator[Binding]:
        """All bindings whose pattern matches `entity`, whatever they grant."""
        namespace = entity.partition("/")[0]
        for binding in self._of_namespace.get(namespace, ()):
            if binding.matches(entity):
                yield binding
        for binding in self._of_any:
            if binding.matches(entity):
                yield binding


NOTHING = Grants()
