"""What a namespace's policy says of pushes to its repositories and of deletions from them.

    {"immutable_tags": ["*:v*"], "no_delete": true}

A pattern is REPOSITORY:TAG as in the setting `immutable_tags`, with the repository's name below the namespace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from storage.quotas.patterns import Immutable

RULES = ("immutable_tags", "no_delete")
"""The fields of a policy's document that are read here; the builder reads the others."""

MOST_PATTERNS = 1000


@dataclass(frozen=True)
class NamespaceRules:
    namespace: str
    immutable: tuple[Immutable, ...] = ()
    no_delete: bool = False

    @classmethod
    def of_document(cls, namespace: str, document: Mapping[str, Any]) -> Self:
        """Raises ValueError, which says which field is wrong, and how."""
        patterns = document.get("immutable_tags", [])
        if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
            raise ValueError("immutable_tags must be a list of texts such as *:v*")
        if len(patterns) > MOST_PATTERNS:
            raise ValueError(f"immutable_tags has {len(patterns)} entries; at most {MOST_PATTERNS} are allowed")
        no_delete = document.get("no_delete", False)
        if not isinstance(no_delete, bool):
            raise ValueError("no_delete must be true or false")  # noqa: TRY004 - a document from outside is wrong
        return cls(namespace, tuple(map(Immutable.parse, patterns)), no_delete)

    @classmethod
    def parse(cls, namespace: str, text: str) -> Self:
        """From JSON text. Raises ValueError."""
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("it is not an object")  # noqa: TRY004 - a document from outside is wrong
        return cls.of_document(namespace, document)

    def find_immutable(self, repository: str, tag: str) -> str | None:
        """The pattern by which a tag must not change, if there is one."""
        name = repository.removeprefix(self.namespace).removeprefix("/")
        return next((str(each) for each in self.immutable if each.holds(name, tag)), None)
