"""What must not be moved or deleted in a repository, by the settings and by the policy of its namespace.

It is found in the transaction that changes the repository, so that no rule is passed by that came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.account_tables import namespace as namespace_table
from storage.errors import DeletionForbidden, TagImmutable
from storage.glob import glob
from storage.quotas.namespace_rules import NamespaceRules
from storage.quotas.patterns import Immutable

_SETTING = "immutable_tags"


@dataclass(frozen=True)
class Protection:
    """`immutable` and `no_delete` are the settings'; `namespace` has the rules of the repository's namespace.

    `problem` says why those cannot be read. Then nothing is moved or deleted.
    """

    repository: str
    immutable: tuple[Immutable, ...] = ()
    no_delete: tuple[str, ...] = ()
    namespace: NamespaceRules | None = None
    problem: str = ""

    def find_immutable(self, tag: str) -> tuple[str, str] | None:
        """By which pattern a tag must not change, and where that is set; None if it may."""
        for rule in self.immutable:
            if rule.holds(self.repository, tag):
                return str(rule), _SETTING
        if self.problem:
            return "*", f"{self._where}, which cannot be read: {self.problem}"
        if self.namespace and (pattern := self.namespace.find_immutable(self.repository, tag)):
            return pattern, f"{_SETTING} of {self._where}"
        return None

    def check_change(self, tags: Iterable[str]) -> None:
        """Raise TagImmutable for the first tag that must be neither moved nor deleted."""
        for tag in tags:
            if found := self.find_immutable(tag):
                raise TagImmutable(self.repository, tag, *found)

    def check_deletion(self) -> None:
        """Raise DeletionForbidden if nothing in the repository is to be deleted."""
        if any(glob(pattern, self.repository) for pattern in self.no_delete):
            raise DeletionForbidden(self.repository, "the setting no_delete")
        if self.problem:
            raise DeletionForbidden(self.repository, f"{self._where}, which cannot be read: {self.problem}")
        if self.namespace and self.namespace.no_delete:
            raise DeletionForbidden(self.repository, f"no_delete of {self._where}")

    @property
    def _where(self) -> str:
        return f"the policy of namespace {self.repository.partition('/')[0]}"


def protect(
    repository: str, immutable: tuple[Immutable, ...], no_delete: tuple[str, ...], document: str | None
) -> Protection:
    """The protection by the settings and by the document of the namespace's policy, where it has one."""
    if document is None:
        return Protection(repository, immutable, no_delete)
    try:
        rules = NamespaceRules.parse(repository.partition("/")[0], document)
    except ValueError as error:
        return Protection(repository, immutable, no_delete, problem=str(error))
    return Protection(repository, immutable, no_delete, rules)


async def find_document(connection: AsyncConnection, repository: str) -> str | None:
    """The policy of a repository's namespace as JSON text; None without one."""
    query = select(namespace_table.c.policy).where(namespace_table.c.name == repository.partition("/")[0])
    found: str | None = (await connection.execute(query)).scalar()
    return found


async def list_tags_above(connection: AsyncConnection, repository: str, digest: str) -> Sequence[str]:
    """The tags of a manifest and of all indexes that it is in: what deleting it would make other than it was."""
    tag, child = tables.tag, tables.manifest_child
    seen: set[str] = set()
    level = {digest}
    while level:
        seen |= level
        query = select(child.c.manifest).where(child.c.repository == repository, child.c.digest.in_(level))
        level = set((await connection.execute(query)).scalars()) - seen
    query = select(tag.c.name).where(tag.c.repository == repository, tag.c.digest.in_(seen)).order_by(tag.c.name)
    return list((await connection.execute(query)).scalars())
