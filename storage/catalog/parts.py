"""What the builder stores: builds, locks, images, files and pinned bases, one part each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Self

from storage.catalog.artifacts import Artifacts
from storage.catalog.attachments import Attachments
from storage.catalog.bases import Bases
from storage.catalog.builds import Builds
from storage.catalog.images import Images
from storage.catalog.locks import Locks
from storage.catalog.made import Made
from storage.catalog.policies import NamespacePolicies
from storage.database.engine import Database


@dataclass(frozen=True)
class Catalog:
    """All parts together. Code that needs one part takes only that."""

    builds: Builds
    locks: Locks
    images: Images
    artifacts: Artifacts
    bases: Bases
    room: Made
    policies: NamespacePolicies
    attachments: Attachments

    @classmethod
    def of(
        cls,
        database: Database,
        made: Made | None = None,
        mark: Callable[[str], None] = lambda _: None,
        stamp: Callable[[str], Hashable] | None = None,
    ) -> Self:
        """`mark` is called with a namespace whose policy has changed, and `stamp` says whether it has."""
        made = made or Made(database)
        return cls(
            Builds(database),
            Locks(database),
            Images(database, made),
            Artifacts(database, made),
            Bases(database),
            made,
            NamespacePolicies(database, mark, stamp),
            Attachments(database, made),
        )
